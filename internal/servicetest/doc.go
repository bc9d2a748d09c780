// Package servicetest is images of supporting services, for tests that start them
// in an engine of internal/dockertest: real servers, and stand-ins for what
// cannot be had without a registry.
//
// Real gives an engine Redis, Prometheus or ZooKeeper, made by
// scripts/service-images of the distribution's packages. They are kept on the
// machine; whoever needs one first makes it, and others wait for it. Kafka gives
// it a broker in Go that speaks Kafka's protocol. StandIn gives it a program that
// opens its ports when it is told to, fails as it is told to, and heeds Tell.
// Stack gives it all nine services of a usual environment, under the names by
// which they are pulled.
//
// Nothing is skipped: where an image cannot be made the test fails, and says
// what is missing. An image that was made but not finished is not kept.
package servicetest
