package accessbindings

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// question is one of a BulkAuthorize.
type question struct {
	permission string
	path       []*accessservicev2.Resource
	row        int // of the actions, or of the resources of a matrix
	column     int // of the permissions of a matrix, -1 in a list of actions
}

// fault is an error of a question as one of the call: with the field of the request
// that is at fault.
func (q question) fault(err error) error {
	e, ok := apierr.As(err)
	if !ok || len(e.Fields) != 1 {
		return err
	}
	names := map[string]string{
		"permission":    fmt.Sprintf("actions.items[%d].permission", q.row),
		"resource_path": fmt.Sprintf("actions.items[%d].resource_path", q.row),
	}
	if q.column >= 0 {
		names["permission"] = fmt.Sprintf("action_matrix.permissions[%d]", q.column)
		names["resource_path"] = fmt.Sprintf("action_matrix.resource_paths[%d].path", q.row)
	}
	f := e.Fields[0]
	return apierr.InvalidField(cmp.Or(names[f.Name], f.Name), "%s", f.Message)
}

// questionsOf lists the questions in their order: those of a matrix by resource,
// then by permission.
func questionsOf(req *accessservicev2.BulkAuthorizeRequest) ([]question, error) {
	matrix := req.GetActionMatrix()
	if matrix == nil {
		items := req.GetActions().GetItems()
		questions := make([]question, len(items))
		for i, a := range items {
			questions[i] = question{a.GetPermission(), a.GetResourcePath(), i, -1}
		}
		return questions, nil
	}
	permissions, paths := matrix.GetPermissions(), matrix.GetResourcePaths()
	if len(permissions)*len(paths) > maxQuestions {
		return nil, errManyAsked
	}
	questions := make([]question, 0, len(permissions)*len(paths))
	for i, path := range paths {
		for k, permission := range permissions {
			questions = append(questions, question{permission, path.GetPath(), i, k})
		}
	}
	return questions, nil
}

// resultMask says which fields of a result are filled; all of them when empty. ids is
// whether denials carry decision ids (EX-8): where somebody names their details. Nobody
// pays for a thousand of them, which cost more than the decisions, without having asked.
type resultMask struct {
	paths []string
	ids   bool
}

// maskOf reads the mask of a request: whole fields of Result, and parts of the
// error as the whole.
func maskOf(m *fieldmaskpb.FieldMask) (resultMask, error) {
	if m != nil && !m.IsValid((*accessservicev2.BulkAuthorizeResponse_Result)(nil)) {
		return resultMask{}, apierr.InvalidField("result_mask", "names a field that Result does not have")
	}
	var mask resultMask
	for _, p := range m.GetPaths() {
		mask.ids = mask.ids || p == fieldDenial+".details"
		if len(p) > len(fieldDenial) && p[:len(fieldDenial)+1] == fieldDenial+"." {
			p = fieldDenial
		}
		if !slices.Contains(mask.paths, p) { // each is looked for in each result
			mask.paths = append(mask.paths, p)
		}
	}
	return mask, nil
}

// fieldDenial is the field of Result that has fields of its own.
const fieldDenial = "permission_denied_error"

func (m resultMask) has(field string) bool {
	return len(m.paths) == 0 || slices.Contains(m.paths, field)
}

func (m resultMask) result(permission string, path []*accessservicev2.Resource, denial *accessservicev2.BulkAuthorizeResponse_Error) *accessservicev2.BulkAuthorizeResponse_Result {
	r := new(accessservicev2.BulkAuthorizeResponse_Result)
	if m.has("permission") {
		r.Permission = permission
	}
	if m.has("resource_path") {
		r.ResourcePath = path
	}
	if m.has(fieldDenial) {
		r.PermissionDeniedError = denial
	}
	return r
}
