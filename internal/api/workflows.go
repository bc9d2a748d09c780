package api

import (
	"context"

	"google.golang.org/grpc"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

var errNoWorkflows = task.Errorf(task.CodeUnsupported, "workflows are not in this release yet")

// CreateWorkflow is not in this release.
func (service) CreateWorkflow(context.Context, *pb.CreateWorkflowRequest) (*pb.CreateWorkflowResponse, error) {
	return nil, errNoWorkflows
}

// StartWorkflowRun is not in this release.
func (service) StartWorkflowRun(context.Context, *pb.StartWorkflowRunRequest) (*pb.StartWorkflowRunResponse, error) {
	return nil, errNoWorkflows
}

// StreamWorkflowStatus is not in this release.
func (service) StreamWorkflowStatus(*pb.StreamWorkflowStatusRequest, grpc.ServerStreamingServer[pb.WorkflowStatusUpdate]) error {
	return errNoWorkflows
}
