package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // clients that look after the health of servers
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// A reflector asks a server what it serves, as grpcurl does, and calls it with
// messages that it has learnt from the answers.
type reflector struct {
	*testing.T
	conn   *grpc.ClientConn
	stream grpc.ClientStream
	files  *descriptorpb.FileDescriptorSet
	seen   map[string]bool
}

// newReflector speaks a version of the protocol. v1alpha has other names and the
// same bytes.
func newReflector(t *testing.T, conn *grpc.ClientConn, version string) *reflector {
	t.Helper()
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		"/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo")
	if err != nil {
		t.Fatal(err)
	}
	return &reflector{T: t, conn: conn, stream: stream, files: new(descriptorpb.FileDescriptorSet), seen: map[string]bool{}}
}

func (r *reflector) ask(req *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
	r.Helper()
	if err := r.stream.SendMsg(req); err != nil {
		r.Fatalf("reflection: %v", err)
	}
	got := new(grpc_reflection_v1.ServerReflectionResponse)
	if err := r.stream.RecvMsg(got); err != nil {
		r.Fatalf("reflection: %v", err)
	}
	return got
}

// services lists what the server serves.
func (r *reflector) services() (names []string) {
	r.Helper()
	list := r.ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	})
	for _, s := range list.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	return names
}

// describe returns the descriptor of a service.
func (r *reflector) describe(service string) protoreflect.ServiceDescriptor {
	r.Helper()
	r.learn(r.ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service},
	}))
	files, err := protodesc.NewFiles(r.files)
	if err != nil {
		r.Fatalf("what the server says of %s: %v", service, err)
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		r.Fatalf("the server does not describe %s: %v", service, err)
	}
	sd, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		r.Fatalf("%s is a %T", service, found)
	}
	return sd
}

// learn keeps the files of an answer, and asks for those that they import.
func (r *reflector) learn(answer *grpc_reflection_v1.ServerReflectionResponse) {
	r.Helper()
	if answer.GetErrorResponse() != nil {
		r.Fatalf("reflection: %v", answer)
	}
	for _, text := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		file := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(text, file); err != nil {
			r.Fatal(err)
		}
		if r.seen[file.GetName()] {
			continue
		}
		r.seen[file.GetName()] = true
		r.files.File = append(r.files.File, file)
		for _, name := range file.GetDependency() {
			if !r.seen[name] {
				r.learn(r.ask(&grpc_reflection_v1.ServerReflectionRequest{
					MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileByFilename{FileByFilename: name},
				}))
			}
		}
	}
}

// methods lists every RPC of every service, as "/package.Service/Method".
func (r *reflector) methods() (all []string) {
	r.Helper()
	for _, name := range r.services() {
		methods := r.describe(name).Methods()
		for i := range methods.Len() {
			all = append(all, "/"+name+"/"+string(methods.Get(i).Name()))
		}
	}
	if !slices.Contains(all, pb.OrchestratorService_SubmitTask_FullMethodName) {
		r.Fatalf("there is no call to submit among %v", all)
	}
	return all
}

// call calls a method with a message written as JSON, and returns the messages of
// the answer as JSON objects.
func (r *reflector) call(sd protoreflect.ServiceDescriptor, method, message string) (answers []map[string]any, err error) {
	r.Helper()
	md := sd.Methods().ByName(protoreflect.Name(method))
	if md == nil {
		r.Fatalf("%s has no method %s", sd.FullName(), method)
	}
	req := dynamicpb.NewMessage(md.Input())
	if err := protojson.Unmarshal([]byte(message), req); err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	stream, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+string(sd.FullName())+"/"+method)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(stream.SendMsg(req), stream.CloseSend()); err != nil {
		return nil, err
	}
	for {
		answer := dynamicpb.NewMessage(md.Output())
		switch err := stream.RecvMsg(answer); {
		case errors.Is(err, io.EOF):
			return answers, nil
		case err != nil:
			return answers, err
		}
		answers = append(answers, r.decoded(answer))
	}
}

// decoded returns a message as its JSON says it, with the names of the contract.
func (r *reflector) decoded(m proto.Message) (fields map[string]any) {
	r.Helper()
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		r.Fatal(err)
	}
	if err := json.Unmarshal(text, &fields); err != nil {
		r.Fatal(err)
	}
	return fields
}

// TestReflection lists, describes and calls services without knowing them, as
// grpcurl does: its present releases by v1, older ones by v1alpha.
func TestReflection(t *testing.T) {
	t.Parallel()
	d := openDoors(t)
	for _, version := range []string{"v1", "v1alpha"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newReflector(t, plainConn(t, d.grpc), version)
			services := r.services()
			for _, want := range []string{"orchestrator.v1.OrchestratorService", "grpc.health.v1.Health", "grpc.reflection." + version + ".ServerReflection"} {
				if !slices.Contains(services, want) {
					t.Errorf("%s is not among the services %v", want, services)
				}
			}
			for _, name := range services {
				if r.describe(name).Methods().Len() == 0 {
					t.Errorf("%s is described without methods", name)
				}
			}
			d.runsByReflection(t, r, "by-"+version)
			missing := r.ask(&grpc_reflection_v1.ServerReflectionRequest{
				MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "no.such.Service"},
			})
			if code := missing.GetErrorResponse().GetErrorCode(); code != int32(codes.NotFound) {
				t.Errorf("what does not exist is answered with %v", missing)
			}
		})
	}
}

// runsByReflection submits a task, and follows it to its end.
func (d *doors) runsByReflection(t *testing.T, r *reflector, id string) {
	t.Helper()
	sd := r.describe("orchestrator.v1.OrchestratorService")
	got, err := r.call(sd, "SubmitTask", `{"id": "`+id+`", "class": "cpu_short", "payload": {"message": "hello"}}`)
	if err != nil || len(got) != 1 || got[0]["success"] != true || got[0]["task_id"] != id {
		t.Fatalf("SubmitTask: %v, %v", got, err)
	}
	got, err = r.call(sd, "StreamTaskResults", `{"taskIds": ["`+id+`"], "includeCompleted": true}`)
	if err != nil || len(got) != 1 || got[0]["status"] != "completed" {
		t.Fatalf("StreamTaskResults: %v, %v", got, err)
	}
	got, err = r.call(sd, "GetTaskStatus", `{"taskId": "`+id+`"}`)
	if err != nil || len(got) != 1 || got[0]["status"] != "completed" {
		t.Fatalf("GetTaskStatus: %v, %v", got, err)
	}
	if result, _ := got[0]["result"].(map[string]any); result["message"] != "hello" {
		t.Errorf("GetTaskStatus: the result is %v", result)
	}
	if _, err = r.call(sd, "GetTaskStatus", `{"taskId": "nobody"}`); status.Code(err) != codes.NotFound {
		t.Errorf("GetTaskStatus of an unknown task: %v", err)
	}
}

// TestReflectionIsTheContract holds what is served against what this tree was
// built from.
func TestReflectionIsTheContract(t *testing.T) {
	t.Parallel()
	d := openDoors(t)
	served := newReflector(t, plainConn(t, d.grpc), "v1").describe("orchestrator.v1.OrchestratorService")
	built, err := protoregistry.GlobalFiles.FindDescriptorByName(served.FullName())
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(protodesc.ToFileDescriptorProto(served.ParentFile()), protodesc.ToFileDescriptorProto(built.ParentFile())) {
		t.Error("reflection describes another contract than proto/orchestrator/v1/orchestrator.proto")
	}
}

// TestHealthProtocol asks as Kubernetes and gRPC's own clients do.
func TestHealthProtocol(t *testing.T) {
	t.Parallel()
	d := openDoors(t)
	conn := plainConn(t, d.grpc)
	health := grpc_health_v1.NewHealthClient(conn)
	for _, service := range []string{"", "orchestrator.v1.OrchestratorService"} {
		got, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("Check %q: %v, %v", service, got, err)
		}
	}
	if _, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "no.such.Service"}); status.Code(err) != codes.NotFound {
		t.Errorf("Check of an unknown service: %v", err)
	}
}

// TestHealthWatch: a client that is configured to send calls only to healthy servers
// watches the server's health, and sends them.
func TestHealthWatch(t *testing.T) {
	t.Parallel()
	d := openDoors(t)
	watch, err := grpc_health_v1.NewHealthClient(plainConn(t, d.grpc)).Watch(t.Context(), new(grpc_health_v1.HealthCheckRequest))
	if err != nil {
		t.Fatal(err)
	}
	got, err := watch.Recv()
	if err != nil || got.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("Watch: %v, %v", got, err)
	}
	conn, err := grpc.NewClient(d.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "orchestrator.v1.OrchestratorService"}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h, err := pb.NewOrchestratorServiceClient(conn).Health(ctx, &pb.HealthRequest{}, grpc.WaitForReady(true))
	if err != nil || !h.GetHealthy() {
		t.Errorf("a client that watches: %v, %v", h, err)
	}
}
