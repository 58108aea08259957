package e2e

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// endurance is how long a persistent client tries.
const endurance = time.Minute

// persistent is what official clients do: a call that was UNAVAILABLE is sent
// again, with the same idempotency key, until it is answered. Nothing else is.
type persistent struct {
	again atomic.Int64 // calls that were sent again

	mu         sync.Mutex
	operations map[string]struct{} // that were an answer
}

// persist gives the world a connection of a persistent client.
func (w *world) persist(t *testing.T) {
	t.Helper()
	w.persistent = &persistent{operations: map[string]struct{}{}}
	conn, err := grpc.NewClient(w.server.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(w.persistent.intercept),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second})) // no pause between attempts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w.conn = conn
}

func (p *persistent) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "idempotency-key", rand.Text()), endurance)
	defer cancel()
	for {
		err := call(ctx, method, req, reply, conn, opts...)
		if op, ok := reply.(*operationpb.Operation); ok && err == nil {
			p.mu.Lock()
			p.operations[op.GetId()] = struct{}{}
			p.mu.Unlock()
		}
		if status.Code(err) != codes.Unavailable {
			return err
		}
		p.again.Add(1)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// answered reports whether an operation was the answer to a call.
func (p *persistent) answered(operationID string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.operations[operationID]
	return ok
}

// count is the number of operations that were an answer.
func (p *persistent) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.operations)
}

// finish waits until an operation is done whose last step met a fault: a worker
// takes it up. Only clients that are persistent wait.
func (w *world) finish(op *operationpb.Operation) error {
	for deadline := time.Now().Add(endurance); w.persistent != nil && !op.GetDone() && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		now, err := w.operations().Get(w.as(w.owner), &operationpb.GetOperationRequest{OperationId: op.GetId()})
		if err != nil {
			return err
		}
		proto.Reset(op)
		proto.Merge(op, now)
	}
	return nil
}
