package contract

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// departure is a field whose rules are not the contract's, on purpose.
type departure struct {
	why   string
	field string
	drop  []string // rules of the contract that we do not have
	add   []string // rules of ours that the contract does not have
}

const (
	nameRule      = `string.pattern=^(?:[a-z]([-a-z0-9]{0,61}[a-z0-9])?)$`
	emptyNameRule = `string.pattern=^(?:|[a-z]([-a-z0-9]{0,61}[a-z0-9])?)$`
	// Ours, with at least 3 characters (C-5).
	longNameRule      = `string.pattern=^(?:[a-z][-a-z0-9]{1,61}[a-z0-9])$`
	emptyLongNameRule = `string.pattern=^(?:|[a-z][-a-z0-9]{1,61}[a-z0-9])$`
)

// labelRules are those of labels where the contract has none (NM-5).
var labelRules = []string{
	"map.keys.string.max_len=63", "map.keys.string.min_len=1", "map.keys.string.pattern=^(?:[a-z][-_0-9a-z]*)$", "map.max_pairs=64",
	"map.values.string.max_len=63", "map.values.string.pattern=^(?:[-_0-9a-z]*)$",
}

// departures is the whole list.
var departures = []departure{
	{"CR-2: the first cloud needs no organization", "yandex.cloud.resourcemanager.v1.CreateCloudRequest.organization_id", []string{"required=true"}, nil},
	{"C-5", "yandex.cloud.resourcemanager.v1.CreateCloudRequest.name", []string{nameRule}, []string{longNameRule}},
	{"C-5", "yandex.cloud.resourcemanager.v1.UpdateCloudRequest.name", []string{emptyNameRule}, []string{emptyLongNameRule}},
	{"C-5", "yandex.cloud.resourcemanager.v1.CreateFolderRequest.name", []string{nameRule}, []string{longNameRule}},
	{"C-5", "yandex.cloud.resourcemanager.v1.UpdateFolderRequest.name", []string{emptyNameRule}, []string{emptyLongNameRule}},
	{"C-5", "yandex.cloud.organizationmanager.v1.UpdateOrganizationRequest.name", []string{emptyNameRule}, []string{emptyLongNameRule}},
	{"C-5", "yandex.cloud.iam.v1.CreateServiceAccountRequest.name", []string{nameRule}, []string{longNameRule}},
	{"NM-8, C-5: empty means unchanged", "yandex.cloud.iam.v1.UpdateServiceAccountRequest.name", []string{nameRule, "required=true"}, []string{emptyLongNameRule}},
	{"NM-8: empty means unchanged", "yandex.cloud.iam.v1.UpdateOAuthClientRequest.name", []string{nameRule, "required=true"}, []string{emptyNameRule}},
	{"SK-3: whatever is wrong with a JWT is answered the same", "yandex.cloud.iam.v1.CreateIamTokenRequest.jwt", []string{"string.max_len=8000"}, nil},
	{"who updates another field sends no scopes", "yandex.cloud.iam.v1.UpdateApiKeyRequest.scopes", []string{"repeated.min_items=1"}, nil},
	{"C-5", "yandex.cloud.iam.v1.workload.oidc.CreateFederationRequest.name", []string{nameRule}, []string{longNameRule}},
	{"NM-8, C-5: empty means unchanged", "yandex.cloud.iam.v1.workload.oidc.UpdateFederationRequest.name", []string{nameRule}, []string{emptyLongNameRule}},
	{"who updates another field sends no audiences", "yandex.cloud.iam.v1.workload.oidc.UpdateFederationRequest.audiences", []string{"repeated.min_items=1"}, nil},
	{"NM-5", "yandex.cloud.iam.v1.workload.oidc.CreateFederationRequest.labels", nil, labelRules},
	{"NM-5", "yandex.cloud.iam.v1.workload.oidc.UpdateFederationRequest.labels", nil, labelRules},
	{"no token is without a subject", "yandex.cloud.iam.v1.workload.CreateFederatedCredentialRequest.external_subject_id", nil, []string{"required=true"}},
	{"an unknown action can mean nothing", "yandex.cloud.access.AccessBindingDelta.action", nil, []string{"enum.defined_only=true"}},
}

// TestLimitsAreTheContracts compares the rules of every field and oneof below
// proto/yandex with the limits of the contract's tables, both ways.
func TestLimitsAreTheContracts(t *testing.T) {
	served := sourceFiles(t)
	want, limits := make(map[string][]string), 0
	for _, r := range readTables(t) {
		if !slices.Contains(served, r.file) {
			continue
		}
		if rules := rulesOf(t, r); len(rules) > 0 {
			want[r.name] = rules
		}
		limits += len(r.attrs)
	}
	// Counted in another way, too: a parser that loses some must not pass.
	if counted := countLimits(t, served); limits != counted {
		t.Errorf("%d limits were read from the tables on what is served, they have %d", limits, counted)
	}
	for _, d := range departures {
		if want[d.field] = depart(t, d, want[d.field]); len(want[d.field]) == 0 {
			delete(want, d.field)
		}
	}

	got := make(map[string][]string)
	for _, path := range served {
		file, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			t.Fatal(err)
		}
		declaredRules(got, file.Messages())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules differ from the contract's limits (-contract +ours):\n%s", diff)
	}
}

// limit matches what a table may say about a field and limits it; named matches a
// field that is called like a limit.
var (
	limit = regexp.MustCompile(` (?:required|exactly_one|unique|opt:yandex\.cloud\.sensitive=|(?:map_key\.)?(?:length|value|pattern|size)=)`)
	named = regexp.MustCompile(`field \d+ (?:required|exactly_one) `)
)

// countLimits counts the limits on what is served, without reading the tables any
// further than that.
func countLimits(t *testing.T, served []string) (n int) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tables {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range strings.Split(string(text), "\n\n") {
			_, file, _ := strings.Cut(section, ` file="`)
			file, _, _ = strings.Cut(file, `"`)
			if strings.HasPrefix(section, "message ") && slices.Contains(served, herePath(file)) {
				n += len(limit.FindAllString(section, -1)) - len(named.FindAllString(section, -1))
			}
		}
	}
	return n
}

// depart applies a departure to the rules of its field.
func depart(t *testing.T, d departure, rules []string) []string {
	t.Helper()
	for _, rule := range d.drop {
		if !slices.Contains(rules, rule) {
			t.Errorf("%s (%s): the contract does not have %q", d.field, d.why, rule)
		}
	}
	kept := slices.DeleteFunc(slices.Clone(rules), func(rule string) bool { return slices.Contains(d.drop, rule) })
	return slices.Sorted(slices.Values(append(kept, d.add...)))
}

// rulesOf translates the limits of a record into protovalidate's, as paths in
// FieldRules with their values, sorted.
func rulesOf(t *testing.T, r record) []string {
	t.Helper()
	var rules []string
	add := func(path, value string) { rules = append(rules, path+"="+value) }
	text := "string" // where the rules of the text itself stand
	switch r.label {
	case "map":
		text = "map.values.string"
	case "repeated":
		text = "repeated.items.string"
	}
	for name, value := range r.attrs {
		switch name {
		case "required", "exactly_one":
			add("required", "true")
		case "unique":
			add("repeated.unique", "true")
		case "pattern":
			add(text+".pattern", "^(?:"+value+")$")
		case "length":
			bounds(t, value, func(low string) { add(text+".min_len", low) }, func(high string) { add(text+".max_len", high) })
		case "map_key.pattern":
			add("map.keys.string.pattern", "^(?:"+value+")$")
		case "map_key.length":
			bounds(t, value, func(low string) { add("map.keys.string.min_len", low) }, func(high string) { add("map.keys.string.max_len", high) })
		case "size":
			count := map[string][2]string{"map": {"map.min_pairs", "map.max_pairs"}, "repeated": {"repeated.min_items", "repeated.max_items"}}[r.label]
			bounds(t, value, func(low string) { add(count[0], low) }, func(high string) { add(count[1], high) })
		case "value":
			if r.typ == "google.protobuf.Timestamp" {
				low, high, _ := strings.Cut(value, "-")
				add("timestamp.gte", moment(t, low))
				add("timestamp.lte", moment(t, high))
				continue
			}
			if r.typ == "google.protobuf.Duration" {
				low, high, _ := strings.Cut(value, "-")
				add("duration.gte.seconds", seconds(t, low))
				add("duration.lte.seconds", seconds(t, high))
				continue
			}
			bounds(t, value, func(low string) { add(r.typ+".gte", asNumber(t, r.typ, low)) }, func(high string) { add(r.typ+".lte", asNumber(t, r.typ, high)) })
		case "opt:yandex.cloud.sensitive":
			add("debug_redact", value)
		default:
			t.Errorf("%s: no translation for the limit %s=%q", r.name, name, value)
		}
	}
	slices.Sort(rules)
	return rules
}

// bounds reads <=N, <N, >=N, >N, A-B or N and hands on the least and the greatest
// allowed number, where there is one.
func bounds(t *testing.T, form string, low, high func(string)) {
	t.Helper()
	number := func(text string, plus int) string {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("bounds %q: %v", form, err)
		}
		return strconv.Itoa(n + plus)
	}
	if n, ok := strings.CutPrefix(form, "<="); ok {
		high(number(n, 0))
	} else if n, ok := strings.CutPrefix(form, "<"); ok {
		high(number(n, -1))
	} else if n, ok := strings.CutPrefix(form, ">="); ok {
		low(number(n, 0))
	} else if n, ok := strings.CutPrefix(form, ">"); ok {
		low(number(n, 1))
	} else if from, to, ok := strings.Cut(form, "-"); ok {
		low(number(from, 0))
		high(number(to, 0))
	} else {
		low(number(form, 0))
		high(number(form, 0))
	}
}

// asNumber writes a whole number as a field of that type holds it.
func asNumber(t *testing.T, typ, whole string) string {
	t.Helper()
	if typ != "double" {
		return whole
	}
	f, err := strconv.ParseFloat(whole, 64)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(f)
}

// moment reads a time as the tables write it, in UTC.
func moment(t *testing.T, text string) string {
	t.Helper()
	at, err := time.Parse("20060102T150405.999999999", text)
	if err != nil {
		t.Fatal(err)
	}
	return at.Format(time.RFC3339Nano)
}

// seconds reads a duration as the tables write it.
func seconds(t *testing.T, text string) string {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(int(d.Seconds()))
}

// declaredRules adds the rules of all fields and oneofs of messages, by full name.
func declaredRules(rules map[string][]string, messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		message := messages.Get(i)
		for j := range message.Fields().Len() {
			field := message.Fields().Get(j)
			options := field.Options().(*descriptorpb.FieldOptions)
			var list []string
			if proto.HasExtension(options, validate.E_Field) {
				list = flatten(nil, "", proto.GetExtension(options, validate.E_Field).(*validate.FieldRules).ProtoReflect())
			}
			if options.GetDebugRedact() && message.ParentFile().Package() == "yandex.cloud.priv.accessservice.v2" {
				list = append(list, "debug_redact=true")
			}
			if len(list) > 0 {
				rules[string(field.FullName())] = slices.Sorted(slices.Values(list))
			}
		}
		for j := range message.Oneofs().Len() {
			oneof := message.Oneofs().Get(j)
			options := oneof.Options().(*descriptorpb.OneofOptions)
			if proto.HasExtension(options, validate.E_Oneof) {
				rules[string(oneof.FullName())] = flatten(nil, "", proto.GetExtension(options, validate.E_Oneof).(*validate.OneofRules).ProtoReflect())
			}
		}
		declaredRules(rules, message.Messages())
	}
}

// flatten writes every set field below a message of rules as path=value.
func flatten(list []string, path string, rules protoreflect.Message) []string {
	rules.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		at := strings.TrimPrefix(path+"."+string(field.Name()), ".")
		if field.Message() == nil || field.IsList() || field.IsMap() {
			list = append(list, fmt.Sprintf("%s=%v", at, value.Interface()))
			return true
		}
		if stamp, ok := value.Message().Interface().(*timestamppb.Timestamp); ok {
			list = append(list, at+"="+stamp.AsTime().Format(time.RFC3339Nano))
			return true
		}
		list = flatten(list, at, value.Message())
		return true
	})
	return list
}
