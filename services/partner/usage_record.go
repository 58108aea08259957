package partner

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/decimal"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// Limits of a record.
const (
	maxRecordID  = 64
	maxUsageID   = 50
	maxLabels    = 64
	maxLabelText = 63
	maxLateness  = 366 * 24 * time.Hour
)

// Amounts are what a record counts, or the sums of many.
type Amounts struct{ Quantity, Cost, Discount, Reward, Adjustment decimal.Decimal }

func (a Amounts) add(b Amounts) Amounts {
	return Amounts{
		a.Quantity.Add(b.Quantity), a.Cost.Add(b.Cost), a.Discount.Add(b.Discount), a.Reward.Add(b.Reward), a.Adjustment.Add(b.Adjustment),
	}
}

// client is what the customer pays (PT-43).
func (a Amounts) client() decimal.Decimal { return a.Cost.Sub(a.Discount) }

// partner is what the partner pays (PT-43). The sign of the adjustment is ours.
func (a Amounts) partner() decimal.Decimal { return a.client().Sub(a.Reward).Add(a.Adjustment) }

// Use is one record as it is taken.
type Use struct {
	ID      string
	UsedAt  time.Time
	Cloud   string
	Folder  string
	Service string
	SKU     string
	Labels  map[string]string
	Amounts

	index    int    // in its request
	labelsID string // names the set of labels; "" is the empty one
	digest   hash   // of everything that the record says: records of one id are the same when these are
}

// hash is the beginning of a SHA-256: short enough to be an index, long enough that no two
// things have the same.
type hash [16]byte

// hashOf hashes texts so that no two lists of them look alike.
func hashOf(parts ...string) hash {
	b := make([]byte, 0, 256)
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return hash(sum[:16])
}

// identified returns the record with the hashes of what it says.
func (u Use) identified() Use {
	if len(u.Labels) > 0 {
		parts := make([]string, 0, 2*len(u.Labels))
		for _, name := range slices.Sorted(maps.Keys(u.Labels)) {
			parts = append(parts, name, u.Labels[name])
		}
		h := hashOf(parts...)
		u.labelsID = hex.EncodeToString(h[:])
	}
	u.digest = hashOf(strconv.FormatInt(u.UsedAt.UnixMicro(), 10), u.Cloud, u.Folder, u.Service, u.SKU, u.labelsID,
		u.Quantity.String(), u.Cost.String(), u.Discount.String(), u.Reward.String(), u.Adjustment.String())
	return u
}

// readUse reads one record of a request, and collects what is wrong with it.
func readUse(field string, r *partnerv1.UsageRecord) (Use, []apierr.Field) {
	var bad []apierr.Field
	refuse := func(name, format string, args ...any) {
		bad = append(bad, apierr.Field{Name: field + name, Message: fmt.Sprintf(format, args...)})
	}
	u := Use{
		ID: r.GetId(), Cloud: r.GetCloudId(), Folder: r.GetFolderId(), Service: r.GetServiceId(), SKU: r.GetSkuId(), Labels: r.GetLabels(),
	}
	if !isRecordID(u.ID) {
		refuse(".id", "must have 1 to %d letters, digits and . _ : -", maxRecordID)
	}
	if !r.GetUsedAt().IsValid() {
		refuse(".used_at", "is required, and must be a time")
	} else {
		u.UsedAt = r.GetUsedAt().AsTime().Truncate(time.Microsecond)
	}
	for _, f := range []struct {
		name, text string
		least      int
	}{{".cloud_id", u.Cloud, 1}, {".folder_id", u.Folder, 0}, {".service_id", u.Service, 1}, {".sku_id", u.SKU, 1}} {
		if n := utf8.RuneCountInString(f.text); n < f.least || n > maxUsageID {
			refuse(f.name, "must have %d to %d characters", f.least, maxUsageID)
		}
	}
	if len(u.Labels) > maxLabels {
		refuse(".labels", "must be at most %d", maxLabels)
	}
	for name, value := range u.Labels {
		if n := utf8.RuneCountInString(name); n < 1 || n > maxLabelText || utf8.RuneCountInString(value) > maxLabelText {
			refuse(".labels", "must have keys of 1 to %d characters, and values of up to %d", maxLabelText, maxLabelText)
			break
		}
	}
	for _, f := range []struct {
		name, text string
		into       *decimal.Decimal
	}{
		{".quantity", r.GetQuantity(), &u.Quantity}, {".cost", r.GetCost(), &u.Cost}, {".discount", r.GetDiscount(), &u.Discount},
		{".reward", r.GetReward(), &u.Reward}, {".adjustment", r.GetAdjustment(), &u.Adjustment},
	} {
		var err error
		if *f.into, err = decimal.Parse(f.text); err != nil {
			refuse(f.name, "%v", err)
		}
	}
	return u.identified(), bad
}

// isRecordID reports whether a text has the form of the id of a record.
func isRecordID(s string) bool {
	for _, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '.' && c != '_' && c != ':' && c != '-' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxRecordID
}
