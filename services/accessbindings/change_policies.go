package accessbindings

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// PolicyBinding is an access policy on a resource. Number is its place in listings.
type PolicyBinding struct {
	Template   string
	Parameters map[string]string
	Number     int64
}

// policyVerb is what a write does to the binding of a policy.
type policyVerb string

// What can be done to a binding, by the words of rules AU-1 and AU-4.
const (
	bindPolicy   policyVerb = "Bind"
	unbindPolicy policyVerb = "Unbind"
	updatePolicy policyVerb = "Update" // its parameters
)

// changePolicy is the intent of the three writes of AccessPolicyService.
type changePolicy struct {
	verb           policyVerb
	resource       Ref
	binding        PolicyBinding
	permission     string // to manage the policies of the resource (AP-4)
	viewPermission string // shows the operation to others than its maker
	caller         checker.Query
	record         *audit.Record
	metadata       proto.Message
	response       proto.Message
}

// asks says whose rights the write depends on.
func (in *changePolicy) asks() Subject { return Subject(in.caller.Subject) }

func (in *changePolicy) plan(ctx context.Context, on *state) (plan, error) {
	path, err := on.path(ctx, on.tx, in.resource)
	if err != nil {
		return plan{}, err
	}
	if len(path) == 0 {
		return plan{}, notFound(in.resource)
	}
	asked := in.caller
	asked.Resource, asked.Now = checker.Resource(in.resource), on.now
	if err := rules.MayManagePolicies(in.permission, on.graph.holds(asked)); err != nil {
		return plan{}, err
	}
	bound, err := on.policyBound(ctx, on.tx, in.resource, in.binding.Template)
	if err != nil {
		return plan{}, err
	}
	rule, change := rules.PolicyIsBound, policyBound(in.resource, in.binding)
	switch in.verb {
	case bindPolicy:
		rule = rules.PolicyBindable
	case unbindPolicy:
		change = policyUnbound(in.resource, in.binding.Template)
	case updatePolicy:
	}
	if err := rule(in.binding.Template, bound); err != nil {
		return plan{}, err
	}
	return plan{
		changes: []*accessv1.Change{change},
		record:  recordOn(in.record, path, policyDetails{Template: in.binding.Template, Parameters: in.binding.Parameters}),
		operation: &operation.New{
			Resource:       operation.Resource{Type: in.resource.Type, ID: in.resource.ID},
			ViewPermission: in.viewPermission,
			Description:    string(in.verb) + " access policy",
			CreatedBy:      in.caller.Subject.ID,
			Metadata:       in.metadata,
			Response:       in.response,
		},
	}, nil
}

// policyDetails are the details of an audit record of policies.
type policyDetails struct {
	Template   string            `json:"access_policy_template_id"`
	Parameters map[string]string `json:"parameters,omitempty"`
}

func policyBound(r Ref, b PolicyBinding) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_PolicyBound{
		PolicyBound: &accessv1.PolicyBound{Resource: r.proto(), TemplateId: b.Template, Parameters: b.Parameters},
	}}
}

func policyUnbound(r Ref, template string) *accessv1.Change {
	return &accessv1.Change{Fact: &accessv1.Change_PolicyUnbound{
		PolicyUnbound: &accessv1.PolicyUnbound{Resource: r.proto(), TemplateId: template},
	}}
}
