// Package proto_test holds the contract with programs in the field against the
// generated code. The tables are written out by hand on purpose: whoever changes
// a .proto file and regenerates must not change what they are compared with.
package proto_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	envmanagerv1 "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
	orchestratorv1 "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// firstOurs is the first field number that this project may give to a field that
// it adds to a message of the contract.
const firstOurs = 16

// A contract is what one package promised. Fields are "number name type"; rpcs
// are "name request response", with "stream" before a response that is one.
type contract struct {
	file     protoreflect.FileDescriptor
	service  string
	rpcs     []string
	messages map[string][]string
}

var orchestrator = contract{
	file:    orchestratorv1.File_orchestrator_v1_orchestrator_proto,
	service: "orchestrator.v1.OrchestratorService",
	rpcs: []string{
		"SubmitTask SubmitTaskRequest SubmitTaskResponse",
		"StreamTaskResults StreamTaskResultsRequest stream TaskResult",
		"GetTaskStatus GetTaskStatusRequest GetTaskStatusResponse",
		"CreateWorkflow CreateWorkflowRequest CreateWorkflowResponse",
		"StartWorkflowRun StartWorkflowRunRequest StartWorkflowRunResponse",
		"StreamWorkflowStatus StreamWorkflowStatusRequest stream WorkflowStatusUpdate",
		"GetMetrics GetMetricsRequest MetricsResponse",
		"StreamEvents StreamEventsRequest stream SystemEvent",
		"Health HealthRequest HealthResponse",
	},
	messages: map[string][]string{
		"SubmitTaskRequest":           {"1 id string", "2 class string", "3 payload map<string,string>", "4 priority int32", "5 workflow_id string"},
		"SubmitTaskResponse":          {"1 success bool", "2 task_id string", "3 error string"},
		"StreamTaskResultsRequest":    {"1 task_ids repeated string", "2 include_completed bool"},
		"TaskResult":                  {"1 task_id string", "2 status string", "3 result map<string,string>", "4 error string", "5 duration_ms double", "6 completed_at int64"},
		"GetTaskStatusRequest":        {"1 task_id string"},
		"GetTaskStatusResponse":       {"1 task_id string", "2 status string", "3 result map<string,string>", "4 error string"},
		"CreateWorkflowRequest":       {"1 id string", "2 name string", "3 description string", "4 spec bytes"},
		"CreateWorkflowResponse":      {"1 success bool", "2 workflow_id string", "3 error string"},
		"StartWorkflowRunRequest":     {"1 workflow_id string", "2 idempotency_key string", "3 input map<string,string>"},
		"StartWorkflowRunResponse":    {"1 success bool", "2 run_id string", "3 error string"},
		"StreamWorkflowStatusRequest": {"1 run_id string"},
		"WorkflowStatusUpdate": {
			"1 run_id string", "2 status string", "3 current_step string", "4 steps_completed int32", "5 total_steps int32",
			"6 output map<string,string>", "7 error string",
		},
		"GetMetricsRequest":   {"1 metric_names repeated string"},
		"MetricsResponse":     {"1 metrics map<string,double>", "2 timestamp int64"},
		"StreamEventsRequest": {"1 event_types repeated string", "2 since_timestamp int64"},
		"SystemEvent":         {"1 event_type string", "2 resource_id string", "3 data map<string,string>", "4 timestamp int64"},
		"HealthRequest":       {},
		"HealthResponse":      {"1 healthy bool", "2 version string", "3 services map<string,string>"},
	},
}

var envManager = contract{
	file:    envmanagerv1.File_env_manager_v1_env_manager_proto,
	service: "env_manager.v1.EnvManagerService",
	rpcs: []string{
		"StartServices StartServicesRequest stream ServiceStatusUpdate",
		"StopServices StopServicesRequest StopServicesResponse",
		"RestartService RestartServiceRequest RestartServiceResponse",
		"GetServicesStatus GetServicesStatusRequest ServicesStatusResponse",
		"StreamHealth StreamHealthRequest stream HealthUpdate",
		"GetResourceAvailability GetResourceAvailabilityRequest ResourceAvailabilityResponse",
		"ExecuteTask ExecuteTaskRequest ExecuteTaskResponse",
		"PullImages PullImagesRequest stream ImagePullProgress",
		"StreamLogs StreamLogsRequest stream LogEntry",
	},
	messages: map[string][]string{
		"StartServicesRequest":     {"1 service_names repeated string", "2 parallel bool", "3 overrides map<string,string>"},
		"ServiceStatusUpdate":      {"1 service_name string", "2 status string", "3 message string", "4 progress int32"},
		"StopServicesRequest":      {"1 service_names repeated string", "2 timeout_seconds int32"},
		"StopServicesResponse":     {"1 success bool", "2 service_results map<string,string>"},
		"RestartServiceRequest":    {"1 service_name string", "2 timeout_seconds int32"},
		"RestartServiceResponse":   {"1 success bool", "2 message string"},
		"GetServicesStatusRequest": {"1 service_names repeated string"},
		"ServicesStatusResponse":   {"1 services map<string,ServiceStatus>"},
		"ServiceStatus": {
			"1 name string", "2 status string", "3 container_id string", "4 ports repeated int32", "5 health_checks map<string,string>",
			"6 started_at int64", "7 resource_usage ResourceUsage",
		},
		"ResourceUsage":                  {"1 cpu_percent double", "2 memory_bytes int64", "3 network_rx_bytes int64", "4 network_tx_bytes int64"},
		"StreamHealthRequest":            {"1 service_names repeated string", "2 interval_seconds int32"},
		"HealthUpdate":                   {"1 service_name string", "2 healthy bool", "3 message string", "4 timestamp int64", "5 details map<string,string>"},
		"GetResourceAvailabilityRequest": {"1 workload_class string"},
		"ResourceAvailabilityResponse":   {"1 available bool", "2 capacity int32", "3 in_use int32", "4 hardware HardwareInfo"},
		"HardwareInfo":                   {"1 cpu_cores int32", "2 memory_bytes int64", "3 gpus repeated GPU"},
		"GPU":                            {"1 index int32", "2 name string", "3 memory_bytes int64", "4 utilization_percent double"},
		"ExecuteTaskRequest":             {"1 task_id string", "2 workload_class string", "3 payload map<string,string>", "4 timeout_seconds int32"},
		"ExecuteTaskResponse":            {"1 success bool", "2 result map<string,string>", "3 error string", "4 latency_ms double"},
		"PullImagesRequest":              {"1 image_names repeated string"},
		"ImagePullProgress":              {"1 image_name string", "2 status string", "3 current int64", "4 total int64", "5 progress_percent int32"},
		"StreamLogsRequest":              {"1 service_name string", "2 follow bool", "3 tail int32", "4 since_timestamp int64"},
		"LogEntry":                       {"1 service_name string", "2 container_id string", "3 stream string", "4 message string", "5 timestamp int64"},
	},
}

func TestContract(t *testing.T) {
	for _, c := range []contract{orchestrator, envManager} {
		t.Run(string(c.file.Package()), func(t *testing.T) {
			checkService(t, c)
			for name, fields := range c.messages {
				checkMessage(t, c.file, name, fields)
			}
		})
	}
}

func checkService(t *testing.T, c contract) {
	t.Helper()
	service := c.file.Services().ByName(protoreflect.FullName(c.service).Name())
	if service == nil || string(service.FullName()) != c.service {
		t.Fatalf("service %s is gone", c.service)
	}
	for _, want := range c.rpcs {
		name, _, _ := strings.Cut(want, " ")
		m := service.Methods().ByName(protoreflect.Name(name))
		if m == nil {
			t.Errorf("rpc %s is gone", name)
			continue
		}
		if got := rpcLine(m); got != want {
			t.Errorf("rpc is now %q, and was promised as %q", got, want)
		}
	}
}

func rpcLine(m protoreflect.MethodDescriptor) string {
	stream := func(is bool) string {
		if is {
			return "stream "
		}
		return ""
	}
	return fmt.Sprintf("%s %s%s %s%s", m.Name(),
		stream(m.IsStreamingClient()), m.Input().Name(), stream(m.IsStreamingServer()), m.Output().Name())
}

// checkMessage compares in both directions: what was promised is there, and what
// is there beside it has a number of ours.
func checkMessage(t *testing.T, file protoreflect.FileDescriptor, name string, want []string) {
	t.Helper()
	m := file.Messages().ByName(protoreflect.Name(name))
	if m == nil {
		t.Errorf("message %s is gone", name)
		return
	}
	promised := map[protoreflect.FieldNumber]bool{}
	for _, line := range want {
		var n protoreflect.FieldNumber
		if _, err := fmt.Sscan(line, &n); err != nil {
			t.Fatalf("%s: %q: %v", name, line, err)
		}
		promised[n] = true
		f := m.Fields().ByNumber(n)
		if f == nil {
			t.Errorf("%s: field %q is gone", name, line)
			continue
		}
		if got := fieldLine(f); got != line {
			t.Errorf("%s: field is now %q, and was promised as %q", name, got, line)
		}
	}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if !promised[f.Number()] && f.Number() < firstOurs {
			t.Errorf("%s: added field %q must have a number from %d up", name, fieldLine(f), firstOurs)
		}
	}
}

func fieldLine(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsMap():
		return fmt.Sprintf("%d %s map<%s,%s>", f.Number(), f.Name(), typeName(f.MapKey()), typeName(f.MapValue()))
	case f.IsList():
		return fmt.Sprintf("%d %s repeated %s", f.Number(), f.Name(), typeName(f))
	case f.HasOptionalKeyword(), f.ContainingOneof() != nil:
		return fmt.Sprintf("%d %s optional %s", f.Number(), f.Name(), typeName(f))
	default:
		return fmt.Sprintf("%d %s %s", f.Number(), f.Name(), typeName(f))
	}
}

func typeName(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return string(f.Message().Name())
	case protoreflect.EnumKind:
		return string(f.Enum().Name())
	default:
		return f.Kind().String()
	}
}
