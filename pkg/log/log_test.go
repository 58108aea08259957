package log

import (
	"context"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestFromNamesTheRequest(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	want := Request{ID: "r-1", Method: "/a.B/C", Remote: "127.0.0.1:1"}
	ctx := NewContext(context.Background(), want, zap.New(core))
	From(ctx).Info("something")
	entries := logs.All()
	if len(entries) != 1 || entries[0].ContextMap()["request_id"] != "r-1" || entries[0].ContextMap()["method"] != "/a.B/C" {
		t.Errorf("logged %v", entries)
	}
	if got := RequestFrom(ctx); got.ID != want.ID || got.Remote != want.Remote {
		t.Errorf("got %+v", got)
	}
}

func TestOutsideOfARequest(t *testing.T) {
	From(context.Background()).Error("nothing") // must not fail
	if got := RequestFrom(context.Background()); got != (Request{}) {
		t.Errorf("got %+v", got)
	}
}

func TestNewRefusesAnUnknownLevel(t *testing.T) {
	if _, err := New("loud"); err == nil {
		t.Error("a logger of level loud")
	}
	if l, err := New("warn"); err != nil || l.Core().Enabled(zapcore.InfoLevel) || !l.Core().Enabled(zapcore.WarnLevel) {
		t.Errorf("level warn: %v", err)
	}
}
