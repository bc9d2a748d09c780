package api_test

import (
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/api"
)

// TestHealthIsWatched follows the health as load balancers do, until the server
// stops, which does not wait for the watchers.
func TestHealthIsWatched(t *testing.T) {
	f := setup(t, func(o *api.Options) { o.HealthInterval, o.StopTimeout = time.Millisecond, time.Minute })
	cc, err := grpc.NewClient("unix://"+f.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	client := grpc_health_v1.NewHealthClient(cc)
	watch := func(service string) grpc_health_v1.Health_WatchClient {
		t.Helper()
		s, err := client.Watch(f.ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	whole, ours, other := watch(""), watch("orchestrator.v1.OrchestratorService"), watch("other")
	want := func(w grpc_health_v1.Health_WatchClient, want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if got := recv(t, w); got.GetStatus() != want {
			t.Errorf("got %s, want %s", got.GetStatus(), want)
		}
	}
	want(other, grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN)
	for _, w := range []grpc_health_v1.Health_WatchClient{whole, ours} {
		want(w, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	for _, ill := range []bool{true, false} {
		f.ill.Store(ill)
		status := grpc_health_v1.HealthCheckResponse_SERVING
		if ill {
			status = grpc_health_v1.HealthCheckResponse_NOT_SERVING
		}
		want(whole, status)
		want(ours, status)
	}
	if _, err := client.Check(f.ctx, &grpc_health_v1.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v", err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- f.stop() }()
	for _, w := range []grpc_health_v1.Health_WatchClient{whole, ours, other} {
		if m, err := w.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("a watch ended with %v, %v", m, err)
		}
	}
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the stop waits for watchers")
	}
}
