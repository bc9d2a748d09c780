package task

// The types of events that followers outside see. They are a contract: dashboards
// and programs select by them.
const (
	TypeSubmitted = "task_submitted"
	TypeStarted   = "task_started"
	TypeCompleted = "task_completed"
	TypeFailed    = "task_failed"
	TypeCancelled = "task_cancelled"
	TypeRetrying  = "task_retrying"

	TypeGPUUnhealthy = "gpu_unhealthy"
)

// EventType returns the type under which the record is published; "" for what
// concerns only ourselves, such as a placement.
func (r Record) EventType() string {
	switch {
	case r.Kind == EventGPUFailed:
		return TypeGPUUnhealthy
	case r.Kind == EventSubmitted:
		return TypeSubmitted
	case r.Kind == EventStarted:
		return TypeStarted
	case r.Kind == EventRetried, r.Again:
		return TypeRetrying
	case !r.Ended():
		return ""
	case r.To == Succeeded:
		return TypeCompleted
	case r.To == Cancelled:
		return TypeCancelled
	default:
		return TypeFailed
	}
}
