package apierr

import (
	"cmp"
	"errors"
	"slices"

	"buf.build/go/protovalidate"
)

// FromValidation turns what protovalidate found into one refusal that names
// every field, in the order in which the message declares them. A rule that
// could not be evaluated is our fault: INTERNAL. FromValidation of nil is nil.
func FromValidation(err error) error {
	if err == nil {
		return nil
	}
	var failed *protovalidate.ValidationError
	if !errors.As(err, &failed) {
		return Internal(err)
	}
	type violation struct {
		path  []uint64
		field Field
	}
	var all []violation
	for _, v := range failed.Violations {
		var path []uint64
		for _, el := range v.Proto.GetField().GetElements() {
			path = append(path, uint64(max(el.GetFieldNumber(), 0)), el.GetIndex())
		}
		msg := v.Proto.GetMessage()
		if msg == "" {
			msg = "breaks the rule " + v.Proto.GetRuleId()
		}
		all = append(all, violation{path, Field{Name: cmp.Or(protovalidate.FieldPathString(v.Proto.GetField()), "request"), Message: msg}})
	}
	slices.SortStableFunc(all, func(a, b violation) int { // maps are gone through in any order
		return cmp.Or(slices.Compare(a.path, b.path), cmp.Compare(a.field.Name, b.field.Name))
	})
	fields := make([]Field, len(all))
	for i, v := range all {
		fields[i] = v.field
	}
	return Invalid(fields...)
}
