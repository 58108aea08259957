package partner

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	recordsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/usage_records/v1"
)

func (w *world) metadata() recordsv1.MetadataServiceClient {
	return recordsv1.NewMetadataServiceClient(w.Conn)
}

// TestPT44_MetadataNamesWhatRecordsHave compares what there is to report on with what the
// single records say.
func TestPT44_MetadataNamesWhatRecordsHave(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, y, payers, clouds, begin := w.randomUsage()
		for range 60 {
			// A day or two, so that much is missing.
			first := begin.Add(time.Duration(rand.Int64N(int64(w.now().Sub(begin)))))
			start, end := timestamppb.New(first), timestamppb.New(first.Add(time.Duration(rand.IntN(2))*24*time.Hour))
			usage := &recordsv1.GetUsageRequest{
				BillingAccountId: payers[rand.IntN(3)], StartDate: start, EndDate: end, CloudIds: some(clouds), LabelKeys: some([]string{"env", "team"}),
				ServiceIds: some([]string{"compute", "storage"}), SkuIds: some([]string{"sku-0", "sku-1", "sku-2"}),
			}
			filter := &recordsv1.UsageReportRequest{
				BillingAccountId: usage.GetBillingAccountId(), StartDate: start, EndDate: end, CloudIds: usage.GetCloudIds(),
				ServiceIds: usage.GetServiceIds(), SkuIds: usage.GetSkuIds(), LabelsOrFilterLogic: true, Labels: make(map[string]*recordsv1.LabelList),
			}
			for _, key := range usage.GetLabelKeys() {
				filter.Labels[key] = nil
			}
			got := must(w.metadata().GetUsage(w.as(ann), usage))(t)
			for what, ids := range map[string][]string{
				"billing_account": idsOf(got.GetBillingAccounts()), "cloud": idsOf(got.GetClouds()), "service": idsOf(got.GetServices()), "sku": idsOf(got.GetSkus()),
				"label": got.GetLabelKeys(),
			} {
				var want []string
				for _, name := range y.names(what, filter) {
					if key, _, _ := strings.Cut(name, "="); what == "label" {
						name = key
					}
					want = union(want, []string{name})
				}
				if slices.Sort(want); !slices.Equal(ids, want) {
					t.Fatalf("%s of %v:\ngot  %v\nwant %v", what, usage, ids, want)
				}
			}

			place := &recordsv1.UsageReportRequest{
				BillingAccountId: usage.GetBillingAccountId(), StartDate: start, EndDate: end, CloudIds: usage.GetCloudIds(), FolderIds: some([]string{"folder-a", "folder-b"}),
			}
			want := make(map[string][]string)
			for _, pair := range y.names("place", place) {
				cloud, folder, _ := strings.Cut(pair, "/")
				if want[cloud] = append(want[cloud], folder); folder == "" {
					want[cloud] = want[cloud][:len(want[cloud])-1]
				}
			}
			folders := make(map[string][]string)
			for req := (&recordsv1.GetCloudRequest{
				BillingAccountId: place.GetBillingAccountId(), StartDate: start, EndDate: end, CloudIds: place.GetCloudIds(), FolderIds: place.GetFolderIds(), PageSize: 1,
			}); ; {
				page := must(w.metadata().GetCloud(w.as(ann), req))(t)
				for _, c := range page.GetItems() {
					folders[c.GetCloud().GetId()] = append(folders[c.GetCloud().GetId()], idsOf(c.GetFolders())...)
				}
				if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
					break
				}
			}
			if !maps.EqualFunc(folders, want, slices.Equal) {
				t.Fatalf("folders of %v:\ngot  %v\nwant %v", place, folders, want)
			}

			place.Labels = map[string]*recordsv1.LabelList{"env": nil}
			prefix, look := []string{"", "p", "tes", "x"}[rand.IntN(4)], []string{"prod", "never"}
			var values, found []string
			for _, name := range y.names("label", place) {
				value := strings.TrimPrefix(name, "env=")
				if strings.HasPrefix(value, prefix) {
					values = append(values, value)
				}
				if slices.Contains(look, value) {
					found = append(found, value)
				}
			}
			var listed []string
			for req := (&recordsv1.GetLabelRequest{
				BillingAccountId: place.GetBillingAccountId(), StartDate: start, EndDate: end, CloudIds: place.GetCloudIds(), FolderIds: place.GetFolderIds(),
				LabelKey: "env", LabelValue: prefix, LabelValueFilter: look, PageSize: 1,
			}); ; {
				page := must(w.metadata().GetLabel(w.as(ann), req))(t)
				if listed = append(listed, page.GetLabelValues()...); !slices.Equal(page.GetLabelValueFilter(), found) {
					t.Fatalf("values %v of %v: found %v, want %v", look, req, page.GetLabelValueFilter(), found)
				}
				if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
					break
				}
			}
			if !slices.Equal(listed, values) {
				t.Fatalf("values of %v that begin with %q: %v, want %v", place, prefix, listed, values)
			}
		}
	})
}

// names are what the records of a report have of something, each once, in order.
func (y *tally) names(what string, req *recordsv1.UsageReportRequest) (all []string) {
	first, last := req.GetStartDate().AsTime().Truncate(24*time.Hour), req.GetEndDate().AsTime().Truncate(24*time.Hour)
	for _, r := range y.records {
		payer, day := y.payer(r), r.GetUsedAt().AsTime().UTC().Truncate(24*time.Hour)
		if payer == "" || payer != req.GetBillingAccountId() && y.partners[payer] != req.GetBillingAccountId() || day.Before(first) || day.After(last) || !wanted(r, req) {
			continue
		}
		if what == "place" {
			all = union(all, []string{r.GetCloudId() + "/" + r.GetFolderId()})
			continue
		}
		all = union(all, entitiesOf(what, r, payer, req))
	}
	slices.Sort(all)
	return all
}

func idsOf[T interface{ GetId() string }](all []T) (ids []string) {
	for _, one := range all {
		ids = append(ids, one.GetId())
	}
	return ids
}

func TestPT44_MetadataIsForWhoSeesUsage(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, eve := w.person("ann"), w.person("bob"), w.person("eve")
		partner := w.partner(ann)
		w.grant(ann, typeAccount, partner, "billing.accounts.viewer", bob)
		cloud := w.cloud(ann, "").GetId()
		w.link(ann, partner, cloud)
		w.ingest(w.used("a", cloud, w.now(), "10"))
		day := timestamppb.New(w.now())
		req := &recordsv1.GetUsageRequest{BillingAccountId: partner, StartDate: day, EndDate: day}
		if got := must(w.metadata().GetUsage(w.as(bob), req))(t); fmt.Sprint(idsOf(got.GetClouds())) != fmt.Sprint([]string{cloud}) {
			t.Errorf("a viewer sees %v", got)
		}
		_, err := w.metadata().GetUsage(w.as(eve), req)
		wantRefusal(t, "a stranger", err, codes.PermissionDenied, "PERMISSION_DENIED")
		// Records name neither instances nor resources.
		instances := must(w.metadata().GetServiceInstance(w.as(bob), &recordsv1.GetServiceInstanceRequest{BillingAccountId: partner, StartDate: day, EndDate: day}))(t)
		resources := must(w.metadata().GetResources(w.as(bob), &recordsv1.GetResourcesRequest{BillingAccountId: partner, StartDate: day, EndDate: day}))(t)
		if len(instances.GetServiceInstances())+len(resources.GetItems()) > 0 {
			t.Errorf("instances %v, resources %v", instances, resources)
		}
		_, err = w.metadata().GetCloud(w.as(bob), &recordsv1.GetCloudRequest{BillingAccountId: partner, StartDate: timestamppb.New(day.AsTime().AddDate(-10, 0, 0)), EndDate: day})
		wantRefusal(t, "ten years", err, codes.InvalidArgument, "end_date")
		_, err = w.metadata().GetLabel(w.as(bob), &recordsv1.GetLabelRequest{BillingAccountId: partner, StartDate: day, EndDate: day, LabelKey: "env", FolderIds: make([]string, maxChoices+1)})
		wantRefusal(t, "too many", err, codes.InvalidArgument, "folder_ids")
	})
}

// TestUS7_UsageOfAPlaceWithoutTheAccount: whoever may see the usage of a cloud or a folder
// sees it, of that place alone and without discounts, whoever pays.
func TestUS7_UsageOfAPlaceWithoutTheAccount(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, cat, eve := w.person("ann"), w.person("bob"), w.person("cat"), w.person("eve")
		account := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		one := w.cloud(ann, "")
		two := w.cloud(ann, one.GetOrganizationId())
		folder := w.folder(ann, one.GetId())
		for i, cloud := range []string{one.GetId(), two.GetId()} {
			w.link(ann, account, cloud)
			r := w.used(fmt.Sprint("r", i), cloud, w.now(), fmt.Sprint(10*(i+1)))
			r.FolderId, r.Discount = map[int]string{0: folder}[i], "1"
			w.ingest(r, w.used(fmt.Sprint("s", i), cloud, w.now(), "100"))
		}
		w.grant(ann, typeCloud, one.GetId(), "billing.usagerecords.admin", bob)
		w.grant(ann, typeFolder, folder, "billing.usagerecords.admin", cat)
		day := timestamppb.New(w.now())
		ask := func(who person, by string, clouds, folders []string) (string, error) {
			answer, err := w.consumptionReports(who)[by](&recordsv1.UsageReportRequest{
				BillingAccountId: account, StartDate: day, EndDate: day, CloudIds: clouds, FolderIds: folders,
			})
			if err != nil {
				return "", err
			}
			got := shownConsumption(by, answer)
			return fmt.Sprint(got["total cost"], got["total credit"], got["total expense"]), nil
		}
		for _, by := range []string{"cloud", "folder", "resource"} {
			for _, tt := range []struct {
				who             person
				clouds, folders []string
				want            string
			}{
				{bob, []string{one.GetId()}, nil, "110"},
				{bob, []string{one.GetId()}, []string{folder, "elsewhere"}, "10"}, // of the cloud, and narrowed
				{bob, nil, []string{folder}, "10"},
				{cat, nil, []string{folder}, "10"},
				{cat, []string{two.GetId()}, []string{folder}, "0"},
				{ann, []string{one.GetId()}, nil, "110-1109"},
			} {
				if got, err := ask(tt.who, by, tt.clouds, tt.folders); err != nil || got != tt.want {
					t.Errorf("%s by %s of %v %v: %s, %v; want %s", tt.who.login, by, tt.clouds, tt.folders, got, err, tt.want)
				}
			}
			for _, tt := range []struct {
				who             person
				clouds, folders []string
			}{
				{bob, nil, nil}, {bob, []string{one.GetId(), two.GetId()}, nil}, {bob, []string{two.GetId()}, nil}, {bob, []string{"cldnone"}, nil},
				{cat, []string{one.GetId()}, nil}, {cat, nil, []string{folder, "elsewhere"}}, {eve, []string{one.GetId()}, []string{folder}},
			} {
				_, err := ask(tt.who, by, tt.clouds, tt.folders)
				wantRefusal(t, fmt.Sprint(tt.who.login, " by ", by, " of ", tt.clouds, tt.folders), err, codes.PermissionDenied, "PERMISSION_DENIED")
			}
		}
		// Of what the account pays for as a whole nothing is shown.
		for _, by := range []string{"billing_account", "service", "sku", "label", "service_instance"} {
			_, err := ask(bob, by, []string{one.GetId()}, nil)
			wantRefusal(t, by, err, codes.PermissionDenied, "PERMISSION_DENIED")
		}
	})
}
