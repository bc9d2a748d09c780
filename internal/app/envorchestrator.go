package app

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
	orch "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// orchestratorCalls asks the orchestrator of the workspace, where there is one, what
// clients ask env-manager.
type orchestratorCalls struct{ conf config.Config }

// with calls the orchestrator.
func (o orchestratorCalls) with(ctx context.Context, do func(*api.Client) error) error {
	dir := runtimedir.Path(o.conf.RuntimeDir, os.Geteuid())
	c, err := api.Dial(ctx, api.Target{Socket: runtimedir.SocketPath(dir, o.conf.QueueDir)})
	if err != nil {
		return task.Errorf(task.CodeUnavailable, "no orchestrator answers for workspace %s (%w); start it with: dspy-agent start --workspace %s", o.conf.Workspace, err, o.conf.Workspace)
	}
	defer c.Close() //nolint:errcheck // nothing is under way any more
	return do(c)
}

// Execute submits a task and waits for its end.
func (o orchestratorCalls) Execute(ctx context.Context, req *pb.ExecuteTaskRequest) (*pb.ExecuteTaskResponse, error) {
	began := time.Now()
	reply := &pb.ExecuteTaskResponse{}
	err := o.with(ctx, func(c *api.Client) error {
		submit := &orch.SubmitTaskRequest{Id: req.GetTaskId(), Class: req.GetWorkloadClass(), Payload: req.GetPayload()}
		if s := req.GetTimeoutSeconds(); s > 0 {
			submit.Spec = &orch.TaskSpec{TimeoutMs: int64(s) * 1000}
		}
		got, err := c.SubmitTask(ctx, submit)
		if err != nil {
			return err
		}
		if !got.GetSuccess() {
			reply.Error = got.GetError()
			return nil
		}
		info, err := c.WaitTask(ctx, &orch.WaitTaskRequest{TaskId: got.GetTaskId()})
		if err != nil {
			return err
		}
		fillFrom(reply, info)
		return nil
	})
	reply.LatencyMs = float64(time.Since(began)) / float64(time.Millisecond)
	return reply, err
}

// fillFrom says what became of the task. Its result is flat, as the payload is: what is no
// text is JSON.
func fillFrom(reply *pb.ExecuteTaskResponse, info *orch.TaskInfo) {
	reply.Success = info.GetState() == task.Succeeded.String()
	if !reply.Success {
		reply.Error = info.GetState()
		if msg := info.GetOutcome().GetMessage(); msg != "" {
			reply.Error += ": " + msg
		}
	}
	var result map[string]json.RawMessage
	if json.Unmarshal(info.GetResultJson(), &result) != nil {
		return
	}
	reply.Result = map[string]string{}
	for k, v := range result {
		var text string
		if json.Unmarshal(v, &text) != nil {
			text = string(v)
		}
		reply.Result[k] = text
	}
}

// Availability tells what the orchestrator has for a class.
func (o orchestratorCalls) Availability(ctx context.Context, class string) (*pb.ResourceAvailabilityResponse, error) {
	reply := &pb.ResourceAvailabilityResponse{Hardware: &pb.HardwareInfo{
		CpuCores: int32(config.MachineCPUs()), MemoryBytes: config.MachineMemory(),
	}}
	if class == "" {
		class = config.DefaultClass
	}
	if _, err := o.conf.Class(class); err != nil {
		return nil, err
	}
	err := o.with(ctx, func(c *api.Client) error {
		h, err := c.Health(ctx, &orch.HealthRequest{})
		if err != nil {
			return err
		}
		for _, k := range h.GetClasses() {
			if k.GetClass() != class {
				continue
			}
			for _, s := range []task.State{task.Assigned, task.Starting, task.Running, task.Stopping} {
				reply.InUse += int32(k.GetStates()[s.String()])
			}
			reply.Capacity = k.GetParallel()
			if reply.Capacity == 0 {
				reply.Capacity = reply.GetHardware().GetCpuCores()
			}
			reply.Available = h.GetHealthy() && !k.GetPaused() && reply.GetInUse() < reply.GetCapacity()
		}
		list, err := c.ListGPUs(ctx, &orch.ListGPUsRequest{})
		if err != nil {
			return fmt.Errorf("ask for GPUs: %w", err)
		}
		for _, g := range list.GetGpus() {
			reply.Hardware.Gpus = append(reply.Hardware.Gpus, &pb.GPU{
				Index: g.GetIndex(), Name: g.GetModel(), MemoryBytes: g.GetTotalBytes(), UtilizationPercent: float64(g.GetGpuPercent()),
			})
		}
		return nil
	})
	return reply, err
}
