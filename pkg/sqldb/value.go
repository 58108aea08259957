package sqldb

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// Micros is how a time is stored: microseconds since 1970 UTC. The zero time is 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time reads what Micros stored, in UTC.
func Time(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// errText is the one complaint of CheckText.
var errText = errors.New("text is not valid UTF-8 without NUL")

// CheckText refuses texts that PostgreSQL cannot store: invalid UTF-8, and NUL.
// SQLite would take them, and the engines would differ.
func CheckText(texts ...string) error {
	for _, s := range texts {
		if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
			return errText
		}
	}
	return nil
}
