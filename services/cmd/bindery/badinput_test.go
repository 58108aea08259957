package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// maxGrowth is how much memory a process may keep after all bad input.
const maxGrowth = 64 << 20

// answers are what mutations got, by method and mutation.
type answers map[string]string

// TestBadInput sends every RPC every bad value in every field, generated from the
// descriptors, as somebody who may call it: the code and the named field must be
// those that the constraints say, on both engines the same, and nothing else may
// happen to the process.
func TestBadInput(t *testing.T) {
	byEngine := make(map[sqldb.Engine]answers)
	sqldbtest.ForEach(t, "bindery", nil, func(t *testing.T, db *sqldb.DB) {
		w := newAccessWorld(t, db)
		before := heap()
		got := make(answers)
		for _, r := range inputRPCs() {
			got.merge(w.badInput(r))
		}
		w.unharmed(t, before)
		t.Logf("%d mutations of %d uses of RPCs", len(got), len(inputRPCs()))
		byEngine[db.Engine()] = got
	})
	sqlite, postgres := byEngine[sqldb.SQLite], byEngine[sqldb.PostgreSQL]
	if len(sqlite) == 0 || len(postgres) == 0 {
		return // one was left out
	}
	for name, a := range sqlite {
		if b := postgres[name]; a != b {
			t.Errorf("%s: %s on SQLite, %s on PostgreSQL", name, a, b)
		}
	}
}

// inputRPCs are one use of every RPC, and every use of those whose uses differ in
// what the request holds.
func inputRPCs() []rpc {
	var all []rpc
	for _, r := range allRPCs() {
		if !strings.HasPrefix(r.method, "grpc.") && !strings.Contains(r.variant, "new owner") {
			all = append(all, r)
		}
	}
	// What makes subjects of any id comes last, so that the others do not find them.
	slices.SortStableFunc(all, func(a, b rpc) int {
		return cmp.Compare(strings.Index(a.method, "SetSubject"), strings.Index(b.method, "SetSubject"))
	})
	return all
}

func (got answers) merge(more answers) {
	for k, v := range more {
		got[k] = v
	}
}

// badCaller makes requests of an RPC that would be answered as its fixture says.
type badCaller struct {
	*cast
	made   int // targets below the parent, whose number is limited
	conn   grpc.ClientConnInterface
	target *node
	who    person
}

func (w *accessWorld) badCaller(r rpc) *badCaller {
	c := &badCaller{cast: &cast{accessWorld: w, rpc: r}, conn: w.Conn}
	c.renew()
	switch {
	case r.operator:
		c.conn = w.socket
	case len(r.units) > 0:
		c.conn = w.units[r.units[0]]
	}
	return c
}

// renew makes another target, and whoever owns it.
func (c *badCaller) renew() {
	if c.made++; c.rpc.on != "" && c.made%8 == 1 {
		c.parent = c.grow(c.rpc.on).parent
	}
	if c.target = c.fresh(); c.rpc.on == "" {
		c.who = c.person()
	} else {
		c.who = c.target.owner
	}
}

func (c *badCaller) context() context.Context {
	if c.rpc.operator || len(c.rpc.units) > 0 {
		return c.t.Context()
	}
	return c.as(c.who)
}

// send sends bytes and returns the status of the answer.
func (c *badCaller) send(raw []byte) *status.Status {
	ctx, cancel := context.WithTimeout(c.context(), 20*time.Second)
	defer cancel()
	err := c.call(ctx, raw)
	if err == nil {
		c.accepted()
	}
	return status.Convert(err)
}

// accepted makes another target after a write was accepted, which has used the last one up.
func (c *badCaller) accepted() {
	if !isRead(c.rpc.method) {
		c.renew()
	}
}

// call sends bytes as a request, and reads what a stream answers to its end.
func (c *badCaller) call(ctx context.Context, raw []byte) error {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(c.rpc.method, "/", ".")))
	if err != nil {
		return err
	}
	if md, ok := d.(protoreflect.MethodDescriptor); !ok || !md.IsStreamingServer() {
		return c.conn.Invoke(ctx, "/"+c.rpc.method, raw, new([]byte), grpc.ForceCodec(rawBytes{}))
	}
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+c.rpc.method, grpc.ForceCodec(rawBytes{}))
	if err == nil {
		err = errors.Join(stream.SendMsg(raw), stream.CloseSend())
	}
	for err == nil {
		err = stream.RecvMsg(new([]byte))
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// badInput sends the mutations of one RPC and returns what they got.
func (w *accessWorld) badInput(r rpc) answers {
	c, got := w.badCaller(r), make(answers)
	good, err := proto.Marshal(r.request(c.target))
	w.must(err)
	if st := c.send(good); st.Code() != r.inside {
		w.t.Fatalf("%s: the good request got %s", r.name(), describe(st))
	}
	target, base := c.target, r.request(c.target)
	for _, m := range mutations(base) {
		if c.target != target { // the last one was used up
			target, base = c.target, r.request(c.target)
		}
		msg := m.of(base)
		raw, err := encode(msg)
		w.must(err)
		st := c.send(raw)
		name := r.name() + ": " + m.String()
		got[name] = st.Code().String() + " " + fmt.Sprint(violated(st))
		if want := expect(r, m, msg); !want.allows(st) {
			w.t.Errorf("%s: got %s, want %v naming %.200q", name, describe(st), want.codes, want.fields)
		}
		if leak := leaks(st); leak != "" {
			w.t.Errorf("%s: got %s, which shows %q", name, describe(st), leak)
		}
	}
	for what, raw := range noMessages {
		if st := c.send([]byte(raw)); st.Code() != codes.InvalidArgument || leaks(st) != "" {
			w.t.Errorf("%s: %s: got %s", r.name(), what, describe(st))
		}
	}
	return got
}

// noMessages are bytes that are no request of any method.
var noMessages = map[string]string{
	"cut":            "\x0a\x05a",
	"field 0":        "\x00\x00",
	"endless varint": strings.Repeat("\xff", 20),
	"deep groups":    strings.Repeat("\xfb\x3f", 20000), // field 1023, never ended
	"text":           "{}",
}

// unharmed holds the process to what bad input must not change.
func (w *accessWorld) unharmed(t *testing.T, before uint64) {
	t.Helper()
	families, err := w.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "bindery_rpc_panics_total" && f.GetMetric()[0].GetCounter().GetValue() != 0 {
			t.Errorf("%v panics", f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	if after := heap(); after > before+maxGrowth {
		t.Errorf("the heap grew from %d to %d MiB", before>>20, after>>20)
	}
}

// heap is the memory in use after everything that can be freed is.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// rawBytes sends bytes as they are, and leaves those of the answer as they came.
type rawBytes struct{}

func (rawBytes) Name() string { return "proto" }

func (rawBytes) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is no bytes", v)
	}
	return b, nil
}

func (rawBytes) Unmarshal(b []byte, into any) error {
	if kept, ok := into.(*[]byte); ok {
		*kept = bytes.Clone(b)
	}
	return nil
}
