package marketplacerequests

import (
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

func TestMR12_MR13_Installing(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.customer("ann"), w.customer("bob")
		product := w.product(onRequest)
		w.must(w.approve(w.pia, w.mustAsk(ann, product)))
		_, err := w.install(customer{ann.person, bob.folder}, product, "x")
		w.refused("into another's folder", err, apierr.ReasonPermissionDenied)
		_, err = w.install(bob, product, "x")
		w.refused("without access", err, apierr.ReasonPermissionDenied)
		id, err := w.install(ann, product, "thing")
		w.must(err)
		_, err = w.install(ann, product, "thing")
		w.refused("a name that is taken", err, ReasonInstanceNameTaken)
		w.must(w.archive(product))
		ctx := w.as(ann.person)
		got, err := w.instances.GetProductInstance(ctx, &marketplacev1.GetProductInstanceRequest{ProductInstanceId: id})
		w.must(err)
		if got.GetState() != marketplacev1.ProductInstance_ACTIVE || got.GetFolderId() != ann.folder {
			t.Errorf("it is %v", got)
		}
		op, err := w.instances.DeactivateProductInstance(ctx, &marketplacev1.DeactivateProductInstanceRequest{ProductInstanceId: id})
		if s := done[*marketplacev1.ProductInstance](w, op, err)(new(marketplacev1.ProductInstance)).GetState(); s != marketplacev1.ProductInstance_INACTIVE {
			t.Errorf("switched off it is %s", s)
		}
		op, err = w.instances.ActivateProductInstance(ctx, &marketplacev1.ActivateProductInstanceRequest{ProductInstanceId: id})
		done[*marketplacev1.ProductInstance](w, op, err)(new(marketplacev1.ProductInstance))
		op, err = w.instances.UpdateProductInstance(ctx, &marketplacev1.UpdateProductInstanceRequest{ProductInstanceId: id, Name: "other"})
		if n := done[*marketplacev1.ProductInstance](w, op, err)(new(marketplacev1.ProductInstance)).GetName(); n != "other" {
			t.Errorf("it is called %s", n)
		}
		for filter, n := range map[string]int{"": 1, `name = "other"`: 1, `name = "thing"`: 0, `product_id = "` + product + `"`: 1} {
			resp, err := w.instances.ListProductInstances(ctx, &marketplacev1.ListProductInstancesRequest{FolderId: ann.folder, Filter: filter})
			if w.must(err); len(resp.GetProductInstances()) != n {
				t.Errorf("%q lists %v", filter, resp.GetProductInstances())
			}
		}
		_, err = w.instances.DeleteProductInstance(w.as(bob.person), &marketplacev1.DeleteProductInstanceRequest{ProductInstanceId: id})
		w.refused("removed by another", err, apierr.ReasonPermissionDenied)
		_, err = w.instances.DeleteProductInstance(ctx, &marketplacev1.DeleteProductInstanceRequest{ProductInstanceId: id})
		w.must(err)
		_, err = w.instances.GetProductInstance(ctx, &marketplacev1.GetProductInstanceRequest{ProductInstanceId: id})
		w.refused("read what is gone", err, apierr.ReasonResourceNotFound)

		open := w.product(public)
		id, err = w.install(ann, open, "open")
		w.must(err)
		_, err = w.folders.Delete(ctx, &rmv1.DeleteFolderRequest{FolderId: ann.folder, DeleteAfter: timestamppb.Now()})
		w.must(err)
		w.eventually("the installed product goes with its folder", func() bool {
			w.must(w.service.follow(t.Context()))
			_, err := w.service.store.Instance(t.Context(), w.db, id)
			return apierr.ReasonOf(err) == ReasonInstanceNotFound
		})
	})
}
