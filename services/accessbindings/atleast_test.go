package accessbindings

import (
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/lease"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// after asks whether vera may read the folder, no earlier than a revision.
func (w *world) after(token ...string) error {
	ctx := w.t.Context()
	for _, t := range token {
		ctx = metadata.AppendToOutgoingContext(ctx, access.AtLeastHeader, t)
	}
	_, err := w.asker.Authorize(ctx, &accessservicev2.AuthorizeRequest{
		Permission: getFolder, Identity: &accessservicev2.AuthorizeRequest_Subject{Subject: wireSubject(vera)},
		ResourcePath: []*accessservicev2.Resource{{Type: folder1.Type, Id: folder1.ID}},
	})
	return err
}

// A write tells its revision, and a check may ask for no older one.
func TestAtLeastRevision(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		var trailer metadata.MD
		_, err := w.bindings.UpdateAccessBindings(w.Subject(adam.Type, adam.ID), updateRequest(folder1, add(viewer, vera)), grpc.Trailer(&trailer))
		w.must(err)
		told := trailer.Get(access.RevisionTrailer)
		is := w.service.committer.graph.at()
		if len(told) != 1 || told[0] != is.line.at(is.revision).String() {
			t.Fatalf("the write tells %q, it is at %+v", told, is)
		}
		w.must(w.after())
		w.must(w.after(told[0]))
		token, err := w.Issuer.Issue(vera.Type, vera.ID, time.Hour)
		w.must(err)
		for range 2 { // the second time by the fast path of a token that was seen before
			ctx := metadata.AppendToOutgoingContext(w.Subject(nick.Type, nick.ID), access.AtLeastHeader, is.line.at(is.revision+1).String())
			_, err := w.check.Authorize(ctx, &accessservicev2.AuthorizeRequest{
				Permission: getFolder, Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: token.Text},
				ResourcePath: []*accessservicev2.Resource{{Type: folder1.Type, Id: folder1.ID}},
			})
			refused(t, err, codes.OutOfRange, "REVISION_UNKNOWN")
			_, err = w.authorizeBy(token.Text, getFolder, folder1)
			w.must(err)
		}
		refused(t, w.after(is.line.at(is.revision+1).String()), codes.OutOfRange, "REVISION_UNKNOWN")
		refused(t, w.after(line{is.line.Epoch, is.line.Number + 1}.at(1).String()), codes.FailedPrecondition, "REVISION_LOST")
		refused(t, w.after(line{is.line.Epoch + 1, is.line.Number}.at(1).String()), codes.FailedPrecondition, "REVISION_LOST")
		w.atLeastField(told[0], is)
		for _, bad := range [][]string{{"x"}, {"1.1"}, {"1.1.-1"}, {"1.1.01"}, {"1.1.1.1"}, {""}, {"1.1.99999999999999999999"}, {told[0], told[0]}} {
			if err := w.after(bad...); apierr.CodeOf(apierr.FromRPC(err)) != codes.InvalidArgument {
				t.Errorf("%q: %v", bad, err)
			}
		}
	})
}

// atLeastField asks the questions that have a field for a revision.
func (w *world) atLeastField(told string, is point) {
	w.t.Helper()
	ctx := w.as(olga)
	for name, ask := range map[string]func(revision string) error{
		"TestPermissions": func(revision string) error {
			_, err := w.questions.TestPermissions(ctx, &accessv1.TestPermissionsRequest{Resource: folder1.proto(), Permissions: []string{getFolder}, AtLeastRevision: revision})
			return err
		},
		"Explain": func(revision string) error {
			_, err := w.questions.Explain(ctx, &accessv1.ExplainRequest{Resource: folder1.proto(), Permission: getFolder, AtLeastRevision: revision})
			return err
		},
		"ListSubjects": func(revision string) error {
			_, err := w.questions.ListSubjects(ctx, &accessv1.ListSubjectsRequest{Resource: folder1.proto(), Permission: getFolder, AtLeastRevision: revision})
			return err
		},
		"ListResources": func(revision string) error {
			_, err := w.questions.ListResources(ctx, &accessv1.ListResourcesRequest{Permission: getFolder, AtLeastRevision: revision})
			return err
		},
		"Preview": func(revision string) error {
			_, err := w.questions.Preview(ctx, &accessv1.PreviewRequest{Resource: folder1.proto(), Change: &accessv1.PreviewRequest_Set{Set: new(accessv1.SetChange)}, AtLeastRevision: revision})
			return err
		},
	} {
		if err := ask(told); err != nil {
			w.t.Errorf("%s: %v", name, err)
		}
		for bad, want := range map[string]codes.Code{
			is.line.at(is.revision + 1).String(): codes.OutOfRange, line{is.line.Epoch, is.line.Number + 1}.at(1).String(): codes.FailedPrecondition,
			"1.1": codes.InvalidArgument,
		} {
			if err := ask(bad); apierr.CodeOf(apierr.FromRPC(err)) != want {
				w.t.Errorf("%s at least %s: %v, want %v", name, bad, err, want)
			}
		}
	}
}

// An operation of our own packages has the revision of its trailer in its metadata.
func TestOperationsTellTheirRevision(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		var trailer metadata.MD
		op, err := w.grants().CreateGrantPolicy(w.as(olga), newPolicy("one", Subject{}, onOrganization(openPortal)), grpc.Trailer(&trailer))
		w.must(err)
		meta := new(accessv1.CreateGrantPolicyMetadata)
		w.must(op.GetMetadata().UnmarshalTo(meta))
		if told := trailer.Get(access.RevisionTrailer); len(told) != 1 || meta.GetRevision() != told[0] {
			t.Errorf("the metadata tells %q, the trailer %q", meta.GetRevision(), told)
		}
	})
}

// A replica that is behind waits for the revision; one that does not get there says so.
func TestAtLeastWaits(t *testing.T) {
	all := replicasOf(t, 2, lease.Default)
	writer, behind := all[0], all[1]
	behind.delay.Store(int64(300 * time.Millisecond))
	done := make(chan struct{})
	go func() {
		defer close(done)
		writer.mustUpdate(adam, folder1, add(viewer, vera))
	}()
	var is point
	for is = writer.service.committer.graph.at(); is.revision == behind.service.committer.graph.Revision(); is = writer.service.committer.graph.at() {
		time.Sleep(time.Millisecond) // until it is committed
	}
	if err := behind.after(is.line.at(is.revision).String()); err != nil {
		t.Errorf("a replica that was behind: %v", err)
	}
	<-done
	behind.frozen.Store(true)
	go func() { _, _ = writer.update(adam, folder1, remove(viewer, vera)) }()
	for is = writer.service.committer.graph.at(); is.revision == behind.service.committer.graph.Revision(); is = writer.service.committer.graph.at() {
		time.Sleep(time.Millisecond) // until it is committed
	}
	refused(t, behind.after(is.line.at(is.revision).String()), codes.Unavailable, apierr.ReasonCheckerUnavailable)
	behind.frozen.Store(false)
}
