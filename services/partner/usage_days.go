package partner

import (
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// Day is a day of usage, counted from 1970-01-01. Days begin at midnight of UTC+3 (PT-42).
type Day int64

// usageZone is the time of days of usage (PT-42).
var usageZone = time.FixedZone("UTC+3", 3*60*60)

const secondsPerDay = 24 * 60 * 60

// dayOf is the day of a moment.
func dayOf(t time.Time) Day {
	y, m, d := t.In(usageZone).Date()
	return date(y, m, d)
}

// utcDayOf is the day of a moment at UTC (PT-44).
func utcDayOf(t time.Time) Day {
	y, m, d := t.UTC().Date()
	return date(y, m, d)
}

// date is a day of the calendar. Months and days beyond their range count on.
func date(y int, m time.Month, d int) Day {
	return Day(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / secondsPerDay)
}

// date is the day in the calendar.
func (d Day) date() (int, time.Month, int) {
	return time.Unix(int64(d)*secondsPerDay, 0).UTC().Date()
}

// month is the first day of the month.
func (d Day) month() Day {
	y, m, _ := d.date()
	return date(y, m, 1)
}

// monthEnd is the last day of the month.
func (d Day) monthEnd() Day {
	y, m, _ := d.date()
	return date(y, m+1, 1) - 1
}

// String is the day as requests have it, YYYY-MM-DD.
func (d Day) String() string { return time.Unix(int64(d)*secondsPerDay, 0).UTC().Format(time.DateOnly) }

// parseDay reads YYYY-MM-DD; a day that no calendar has is an InvalidField error.
func parseDay(field, text string) (Day, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return 0, apierr.InvalidField(field, "must be a day of the calendar, as YYYY-MM-DD")
	}
	return Day(t.Unix() / secondsPerDay), nil
}
