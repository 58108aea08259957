package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// mutation is one bad value in one field of a request that is good otherwise.
type mutation struct {
	field  string // path, as a field violation names it
	what   string // the value in words
	change func(root protoreflect.Message)
}

func (m mutation) String() string { return m.field + " " + m.what }

// notUTF8 stands in a message for bytes that no encoder writes; bad puts them there.
const notUTF8 = "not~~UTF~~8"

var badBytes = []byte("not\xc0\x80UTF\xff\xfe8")

// of returns a copy of a good request with the bad value.
func (m mutation) of(req proto.Message) proto.Message {
	c := proto.Clone(req)
	m.change(c.ProtoReflect())
	return c
}

// encode returns a message as it goes over the wire.
func encode(m proto.Message) ([]byte, error) {
	raw, err := proto.Marshal(m)
	return bytes.ReplaceAll(raw, []byte(notUTF8), badBytes), err
}

// isUTF8 reports whether the message could be sent by a client that checks it.
func (m mutation) isUTF8() bool { return !strings.HasSuffix(m.what, "not UTF-8") }

// mutations returns every bad value for every field of a request, in an order that
// stays.
func mutations(req proto.Message) []mutation {
	g := new(generator)
	g.message(req.ProtoReflect(), "", func(root protoreflect.Message) protoreflect.Message { return root })
	slices.SortStableFunc(g.all, func(a, b mutation) int { return strings.Compare(a.String(), b.String()) })
	return g.all
}

// generator walks a request by its descriptor. at leads from a copy of the request
// to the message that is looked at, making what is absent.
type generator struct{ all []mutation }

type place func(root protoreflect.Message) protoreflect.Message

func (g *generator) add(field, what string, change func(root protoreflect.Message)) {
	g.all = append(g.all, mutation{field: field, what: what, change: change})
}

func (g *generator) message(m protoreflect.Message, path string, at place) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		name := join(path, string(fd.Name()))
		switch {
		case fd.IsMap():
			g.pairs(m, fd, name, at)
		case fd.IsList():
			g.list(m, fd, name, at)
		case fd.Message() != nil:
			g.single(m, fd, name, at)
		default:
			for _, v := range scalars(fd) {
				g.add(name, v.what, func(root protoreflect.Message) { at(root).Set(fd, v.value) })
			}
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// single is a message that is not repeated: absent, empty, and each of its fields.
func (g *generator) single(m protoreflect.Message, fd protoreflect.FieldDescriptor, name string, at place) {
	g.add(name, "absent", func(root protoreflect.Message) { at(root).Clear(fd) })
	g.add(name, "empty", func(root protoreflect.Message) { at(root).Set(fd, at(root).NewField(fd)) })
	switch fd.Message().FullName() {
	case "google.protobuf.Timestamp":
		for what, v := range badTimes {
			g.add(name, what, func(root protoreflect.Message) {
				t := at(root).Mutable(fd).Message()
				t.Set(t.Descriptor().Fields().ByName("seconds"), protoreflect.ValueOfInt64(v.seconds))
				t.Set(t.Descriptor().Fields().ByName("nanos"), protoreflect.ValueOfInt32(v.nanos))
			})
		}
	case "google.protobuf.Duration":
		for _, seconds := range []int64{-1, 0, 1, 899, 31536001, 315_576_000_000} {
			g.add(name, fmt.Sprintf("%d seconds", seconds), func(root protoreflect.Message) {
				d := at(root).Mutable(fd).Message()
				d.Set(d.Descriptor().Fields().ByName("seconds"), protoreflect.ValueOfInt64(seconds))
			})
		}
	case "google.protobuf.FieldMask":
		for what, paths := range badMasks() {
			g.add(name, what, func(root protoreflect.Message) {
				mask := at(root).Mutable(fd).Message()
				list := mask.Mutable(mask.Descriptor().Fields().ByName("paths")).List()
				list.Truncate(0)
				for _, p := range paths {
					list.Append(protoreflect.ValueOfString(p))
				}
			})
		}
	default:
		g.message(m.Get(fd).Message(), name, func(root protoreflect.Message) protoreflect.Message { return at(root).Mutable(fd).Message() })
	}
}

var badTimes = map[string]struct {
	seconds int64
	nanos   int32
}{
	"before year 1":      {seconds: -62135596801},
	"after year 9999":    {seconds: 253402300800},
	"the greatest":       {seconds: math.MaxInt64, nanos: math.MaxInt32},
	"the least":          {seconds: math.MinInt64, nanos: math.MinInt32},
	"nanos of a second":  {seconds: 4000000000, nanos: 1e9},
	"negative nanos":     {seconds: 4000000000, nanos: -1},
	"before the epoch":   {seconds: -1},
	"in the far future":  {seconds: 250000000000},
	"the end of time_t":  {seconds: math.MaxUint32 + 1},
	"the epoch":          {},
	"a nanosecond of it": {nanos: 1},
}

func badMasks() map[string][]string {
	return map[string][]string{
		"unknown path": {"no_such"}, "empty path": {""}, "forbidden path": {"created_at"}, "id in the mask": {"id"}, "star": {"*"},
		"path below": {"name.value"}, "joined paths": {"name,description"}, "NUL": {"name\x00"}, "turned": {"\u202Ename"}, "a megabyte": {megabyte},
		"many paths": strings.Split(strings.Repeat("no_such,", 10000)+"no_such", ","), "not UTF-8": {notUTF8}, "camel case": {"updateMask"}, "empty after good": {"description", ""},
	}
}

// list is a repeated field: too many items, and each bad item.
func (g *generator) list(m protoreflect.Message, fd protoreflect.FieldDescriptor, name string, at place) {
	g.add(name, "none", func(root protoreflect.Message) { at(root).Clear(fd) })
	first := func(list protoreflect.List) protoreflect.Value {
		if list.Len() == 0 {
			return list.NewElement()
		}
		return list.Get(0)
	}
	if limit := constraintsOf(fd).GetRepeated().GetMaxItems(); limit > 0 {
		g.add(name, "limit + 1", func(root protoreflect.Message) {
			list := at(root).Mutable(fd).List()
			item := first(list)
			for uint64(list.Len()) <= limit {
				list.Append(item)
			}
		})
	}
	item := name + "[0]"
	if fd.Message() == nil {
		for _, v := range scalars(fd) {
			g.add(item, v.what, func(root protoreflect.Message) {
				list := at(root).Mutable(fd).List()
				list.Truncate(0)
				list.Append(v.value)
			})
		}
		return
	}
	g.add(item, "empty", func(root protoreflect.Message) {
		list := at(root).Mutable(fd).List()
		list.Truncate(0)
		list.AppendMutable()
	})
	g.message(first(m.Get(fd).List()).Message(), item, func(root protoreflect.Message) protoreflect.Message {
		list := at(root).Mutable(fd).List()
		if list.Len() == 0 {
			return list.AppendMutable().Message()
		}
		return list.Get(0).Message()
	})
}

// pairs is a map: too many of them, bad keys and bad values.
func (g *generator) pairs(m protoreflect.Message, fd protoreflect.FieldDescriptor, name string, at place) {
	of := fd.MapValue().Message() != nil
	set := func(m protoreflect.Map, k, v string) {
		value := protoreflect.ValueOfString(v)
		if of {
			value = m.NewValue()
		}
		m.Set(protoreflect.ValueOfString(k).MapKey(), value)
	}
	put := func(what, k, v string) {
		g.add(name, what, func(root protoreflect.Message) { set(at(root).Mutable(fd).Map(), k, v) })
	}
	rules := constraintsOf(fd).GetMap()
	for what, s := range texts(rules.GetKeys()) {
		put("key "+what, s, "value")
	}
	if of {
		g.message(m.NewField(fd).Map().NewValue().Message(), name+`["key"]`, func(root protoreflect.Message) protoreflect.Message {
			return at(root).Mutable(fd).Map().Mutable(protoreflect.ValueOfString("key").MapKey()).Message()
		})
	} else {
		for what, s := range texts(rules.GetValues()) {
			put("value "+what, "key", s)
		}
	}
	for i, what := range []string{"limit of pairs", "limit of pairs + 1"} {
		g.add(name, what, func(root protoreflect.Message) {
			m := at(root).Mutable(fd).Map()
			for n := range rules.GetMaxPairs() + uint64(i) {
				set(m, fmt.Sprintf("key%d", n), "value")
			}
		})
	}
}

var megabyte = strings.Repeat("a", 1<<20)

type scalar struct {
	what  string
	value protoreflect.Value
}

// scalars are the bad values of a field that holds one value.
func scalars(fd protoreflect.FieldDescriptor) []scalar {
	var all []scalar
	switch fd.Kind() {
	case protoreflect.StringKind:
		rules := constraintsOf(fd)
		if fd.IsList() {
			rules = rules.GetRepeated().GetItems()
		}
		for what, s := range texts(rules) {
			all = append(all, scalar{what, protoreflect.ValueOfString(s)})
		}
	case protoreflect.Int64Kind:
		for _, n := range []int64{-1, math.MinInt64, 1, 1000, 1001, math.MaxInt32 + 1, math.MaxInt64} {
			all = append(all, scalar{fmt.Sprint(n), protoreflect.ValueOfInt64(n)})
		}
	case protoreflect.DoubleKind:
		for _, f := range []float64{-1, math.Inf(-1), math.Inf(1), math.NaN(), 0.5, 1, math.MaxInt64, math.MaxFloat64, math.SmallestNonzeroFloat64} {
			all = append(all, scalar{fmt.Sprint(f), protoreflect.ValueOfFloat64(f)})
		}
	case protoreflect.BoolKind:
		all = append(all, scalar{"false", protoreflect.ValueOfBool(false)}, scalar{"true", protoreflect.ValueOfBool(true)})
	case protoreflect.EnumKind:
		for _, n := range []protoreflect.EnumNumber{-1, 0, 99, math.MaxInt32} {
			all = append(all, scalar{fmt.Sprintf("undefined %d", n), protoreflect.ValueOfEnum(n)})
		}
	case protoreflect.BytesKind:
		for _, n := range []int{0, 15, 17, 1 << 20} {
			all = append(all, scalar{fmt.Sprintf("%d bytes", n), protoreflect.ValueOfBytes(make([]byte, n))})
		}
	default:
		panic("no bad values for " + string(fd.FullName()) + ": add some")
	}
	return all
}

// texts are the bad values of a text with its limit.
func texts(rules *validate.FieldRules) map[string]string {
	t := map[string]string{
		"empty": "", "a space": " ", "a megabyte": megabyte, "NUL": "a\x00b", "only NUL": "\x00", "not UTF-8": notUTF8,
		"escape": "a\x1b[31mb", "delete": "a\x7fb", "C1": "a\u0085b", "carriage return": "a\r\nb", "line feed": "a\nb", "tab": "a\tb",
		"override": "a\u202Eb", "isolate": "a\u2066b", "Cyrillic a": "vi\u0430wer", "full width": "ｖiewer", "zero width": "a\u200Bb",
		"combining": "a\u0301\u0301\u0301", "beyond the BMP": "😀", "noncharacter": "a\uFFFFb", "quote": `'"; DROP TABLE x; --`, "percent": "%s%n%00",
		"pattern": "%_\\", "brackets": "{${[()]}}", "upper case": "VIEWER", "long word of two bytes": strings.Repeat("é", 5000),
	}
	if limit := rules.GetString().GetMaxLen(); limit > 0 {
		t["at its limit"] = strings.Repeat("a", int(limit))
		t["at its limit, wide"] = strings.Repeat("я", int(limit))
		t["one over"] = strings.Repeat("a", int(limit)+1)
		t["one over, wide"] = strings.Repeat("я", int(limit)+1)
		t["at its limit, very wide"] = strings.Repeat("😀", int(limit))
	}
	return t
}

func constraintsOf(fd protoreflect.FieldDescriptor) *validate.FieldRules {
	rules, _ := proto.GetExtension(fd.Options(), validate.E_Field).(*validate.FieldRules)
	return rules
}
