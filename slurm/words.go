package slurm

import "strings"

// reasons puts Slurm's reasons for waiting into words (job_reason_string, and the manual
// page of squeue). One that is not here is shown as it is.
var reasons = map[string]string{
	"None":                            "Slurm has not looked at it yet",
	"Priority":                        "jobs with a higher priority are before it",
	"Resources":                       "the nodes, CPUs, memory or GPUs that it needs are not free",
	"Dependency":                      "it waits for another job",
	"BeginTime":                       "its start time has not come",
	"JobHeldUser":                     "somebody holds it: scontrol release lets it go",
	"JobHeldAdmin":                    "an administrator holds it",
	"Licenses":                        "a licence that it needs is not free",
	"ReqNodeNotAvail":                 "a node that it needs is down, drained or reserved",
	"PartitionDown":                   "its partition is down",
	"PartitionInactive":               "its partition takes no jobs",
	"PartitionNodeLimit":              "it asks for more nodes than its partition allows",
	"PartitionTimeLimit":              "it asks for more time than its partition allows",
	"PartitionConfig":                 "it asks for what its partition does not have",
	"AssociationJobLimit":             "your account has as many jobs as it may",
	"AssociationResourceLimit":        "your account uses as much as it may",
	"AssociationTimeLimit":            "your account has used up its time",
	"AssocGrpGRES":                    "your account uses as many GPUs as it may",
	"AssocGrpCpuLimit":                "your account uses as many CPUs as it may",
	"AssocGrpMemLimit":                "your account uses as much memory as it may",
	"AssocMaxJobsLimit":               "you run as many jobs as you may",
	"QOSJobLimit":                     "the quality of service has as many jobs as it may",
	"QOSResourceLimit":                "the quality of service uses as much as it may",
	"QOSTimeLimit":                    "the quality of service has used up its time",
	"QOSMaxJobsPerUserLimit":          "you run as many jobs as the quality of service allows",
	"QOSMaxGRESPerUser":               "you use as many GPUs as the quality of service allows",
	"QOSMaxCpuPerUserLimit":           "you use as many CPUs as the quality of service allows",
	"QOSGrpGRES":                      "the quality of service uses as many GPUs as it may",
	"Reservation":                     "its reservation has not begun",
	"NodeDown":                        "a node that it needs is down",
	"BadConstraints":                  "no node fits its constraints: it can never run as it is",
	"InvalidAccount":                  "its account is not valid",
	"InvalidQOS":                      "its quality of service is not valid",
	"launch_failed_requeued_held":     "it could not be started, and is held: an administrator has to look at the node",
	"job_requeued_in_held_state":      "it was put back into the line, and is held",
	"Nodes_required_for_job_are_DOWN": "nodes that it needs are down",
}

// reasonWords translates a reason. Slurm adds details in brackets or after a comma.
func reasonWords(reason string) string {
	reason = strings.Trim(reason, "()")
	if w, ok := reasons[reason]; ok {
		return w
	}
	if w, ok := reasons[strings.ReplaceAll(reason, " ", "_")]; ok {
		return w
	}
	head, rest, _ := strings.Cut(reason, ",")
	if w, ok := reasons[strings.TrimSpace(head)]; ok {
		return w + " (" + strings.TrimSpace(rest) + ")"
	}
	if strings.HasPrefix(reason, "Nodes required for job are DOWN") {
		return "the nodes that it needs are down, drained or reserved for others"
	}
	if reason == "" {
		return "Slurm gives no reason"
	}
	return reason
}

// stateWords are a state as it reads within a sentence.
func stateWords(s State) string {
	return strings.ToLower(strings.ReplaceAll(string(s), "_", " "))
}
