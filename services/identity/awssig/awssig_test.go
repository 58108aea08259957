package awssig

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"testing"
	"time"
)

// The worked example of the AWS documentation: a GET of the service iam.
const (
	exampleSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	exampleText   = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n" +
		"f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
	exampleSignature = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
)

func example() (V4, time.Time) {
	at := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	return V4{StringToSign: exampleText, Signature: exampleSignature, SignedAt: at, Service: "iam", Region: "us-east-1"}, at
}

// judge is what a caller does: the text and its time first, then the secret.
func (s V4) judge(secret string, now time.Time) error {
	if err := s.Check(now); err != nil {
		return err
	}
	return s.Verify(secret)
}

func (s V2) judge(secret string, now time.Time) error {
	if err := s.Check(now); err != nil {
		return err
	}
	return s.Verify(secret)
}

func TestV4Example(t *testing.T) {
	s, at := example()
	for _, after := range []time.Duration{0, Window, -Window} {
		if err := s.judge(exampleSecret, at.Add(after)); err != nil {
			t.Errorf("%v later: %v", after, err)
		}
	}
}

func TestV4Refuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *V4, now *time.Time)
		want   error
	}{
		{"an hour old", func(_ *V4, now *time.Time) { *now = now.Add(time.Hour) }, errWindow},
		{"a second too old", func(_ *V4, now *time.Time) { *now = now.Add(Window + time.Second) }, errWindow},
		{"an hour ahead", func(_ *V4, now *time.Time) { *now = now.Add(-time.Hour) }, errWindow},
		{"replayed under a new time", func(s *V4, now *time.Time) { *now = now.Add(time.Hour); s.SignedAt = *now }, errScope},
		{"replayed with a new text", func(s *V4, now *time.Time) {
			*now = now.Add(time.Hour)
			s.SignedAt = *now
			s.StringToSign = strings.Replace(s.StringToSign, "T123600Z", "T133600Z", 1)
		}, errSecret},
		{"another second", func(s *V4, _ *time.Time) { s.SignedAt = s.SignedAt.Add(time.Second) }, errScope},
		{"another region", func(s *V4, _ *time.Time) { s.Region = "us-east-2" }, errScope},
		{"another service", func(s *V4, _ *time.Time) { s.Service = "s3" }, errScope},
		{"another region in both", func(s *V4, _ *time.Time) {
			s.Region, s.StringToSign = "eu", strings.Replace(s.StringToSign, "us-east-1", "eu", 1)
		}, errSecret},
		{"another service in both", func(s *V4, _ *time.Time) {
			s.Service, s.StringToSign = "s3", strings.Replace(s.StringToSign, "/iam/", "/s3/", 1)
		}, errSecret},
		{"another date in the scope", func(s *V4, _ *time.Time) {
			s.StringToSign = strings.Replace(s.StringToSign, "20150830/", "20150829/", 1)
		}, errScope},
		{"parts that shift", func(s *V4, _ *time.Time) { s.Region, s.Service = "us-east-1/iam", "" }, errForm},
		{"a slash in a part", func(s *V4, _ *time.Time) { s.Region, s.Service = "us", "east-1/iam" }, errForm},
		{"another request", func(s *V4, _ *time.Time) { s.StringToSign = s.StringToSign[:len(s.StringToSign)-1] + "8" }, errSecret},
		{"another algorithm", func(s *V4, _ *time.Time) {
			s.StringToSign = strings.Replace(s.StringToSign, "SHA256", "SHA1", 1)
		}, errForm},
		{"a fifth line", func(s *V4, _ *time.Time) { s.StringToSign += "\n" }, errForm},
		{"three lines", func(s *V4, _ *time.Time) { s.StringToSign = s.StringToSign[:strings.LastIndex(s.StringToSign, "\n")] }, errForm},
		{"no text", func(s *V4, _ *time.Time) { s.StringToSign = "" }, errForm},
		{"no signature", func(s *V4, _ *time.Time) { s.Signature = "" }, errForm},
		{"upper case", func(s *V4, _ *time.Time) { s.Signature = strings.ToUpper(s.Signature) }, errForm},
		{"shorter", func(s *V4, _ *time.Time) { s.Signature = s.Signature[1:] }, errForm},
		{"zone", func(s *V4, now *time.Time) {
			s.StringToSign = strings.Replace(s.StringToSign, "123600Z", "123600+0000", 1)
		}, errScope},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, now := example()
			tt.change(&s, &now)
			if err := s.judge(exampleSecret, now); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	s, now := example()
	if err := s.judge(exampleSecret+"x", now); !errors.Is(err, errSecret) {
		t.Errorf("another secret: %v", err)
	}
}

// No digit of a signature may be another one.
func TestV4OffByOneCharacter(t *testing.T) {
	s, now := example()
	for i := range exampleSignature {
		for _, c := range "0123456789abcdef" {
			s.Signature = exampleSignature[:i] + string(c) + exampleSignature[i+1:]
			if err := s.judge(exampleSecret, now); (err == nil) != (s.Signature == exampleSignature) {
				t.Errorf("%s: %v", s.Signature, err)
			}
		}
	}
}

// sign2 signs a text as clients of Version 2 do.
func sign2(text, secret string, of func() hash.Hash) string {
	h := hmac.New(of, []byte(secret))
	h.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// The worked examples of the AWS documentation: a GET of the storage service, and a
// query of ElasticMapReduce.
func TestV2Examples(t *testing.T) {
	storage := V2{
		StringToSign: "GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/awsexamplebucket1/photos/puppy.jpg",
		Signature:    "qgk2+6Sv9/oM7G3qLEjTH1a1l1g=",
	}
	if err := storage.judge(exampleSecretV2, time.Date(2007, 3, 27, 19, 40, 0, 0, time.UTC)); err != nil {
		t.Errorf("storage: %v", err)
	}
	query := V2{
		StringToSign: "GET\nelasticmapreduce.amazonaws.com\n/\nAWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Action=DescribeJobFlows" +
			"&SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp=2011-10-03T15%3A19%3A30&Version=2009-03-31",
		Signature: "i91nKc4PWAt0JJIdXwz9HxZCJDdiy6cf/Mj6vPxyYIs=", SHA256: true,
	}
	at := time.Date(2011, 10, 3, 15, 19, 30, 0, time.UTC)
	if err := query.judge(exampleSecret2011, at); err != nil {
		t.Errorf("query: %v", err)
	}
	if err := query.judge(exampleSecret2011, at.Add(time.Hour)); !errors.Is(err, errWindow) {
		t.Errorf("query an hour later: %v", err)
	}
	query.SHA256 = false
	if err := query.judge(exampleSecret2011, at); !errors.Is(err, errSecret) {
		t.Errorf("query as HMAC-SHA1: %v", err)
	}
}

const (
	exampleSecretV2   = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	exampleSecret2011 = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

func TestV2Times(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	http := func(at time.Time) string { return at.Format("Mon, 02 Jan 2006 15:04:05 GMT") }
	query := func(parameters string) string { return "GET\nhost\n/\nA=1&" + parameters }
	for _, tt := range []struct {
		name, text string
		want       error
	}{
		{"storage, now", "PUT\nhash\ntype\n" + http(now) + "\n/b/k", nil},
		{"storage, an hour old", "PUT\n\n\n" + http(now.Add(-time.Hour)) + "\n/b/k", errWindow},
		{"storage, own header", "PUT\n\n\n\nx-amz-date:" + http(now) + "\n/b/k", nil},
		{"storage, own header an hour old", "PUT\n\n\n" + http(now) + "\nx-amz-date:" + http(now.Add(-time.Hour)) + "\n/b/k", errWindow},
		{"signed URL", fmt.Sprintf("GET\n\n\n%d\n/b/k", now.Unix()+3600), nil},
		{"signed URL that ended", fmt.Sprintf("GET\n\n\n%d\n/b/k", now.Unix()), errWindow},
		{"signed URL for a month", fmt.Sprintf("GET\n\n\n%d\n/b/k", now.Unix()+30*86400), errWindow},
		{"signed URL, spelled otherwise", fmt.Sprintf("GET\n\n\n+%d\n/b/k", now.Unix()+3600), errForm},
		{"no time", "GET\n\n\n\n/b/k", errForm},
		{"query, now", query("Timestamp=2026-03-01T12%3A00%3A00Z"), nil},
		{"query, old", query("Timestamp=2026-03-01T11%3A00%3A00.000Z"), errWindow},
		{"query, end", query("Expires=2026-03-01T13%3A00%3A00Z"), nil},
		{"query, ended", query("Expires=2026-03-01T11%3A00%3A00Z"), errWindow},
		{"query, both", query("Timestamp=2026-03-01T12%3A00%3A00Z&Expires=2026-03-01T13%3A00%3A00Z"), errForm},
		{"query, twice", query("Timestamp=2020-03-01T12%3A00%3A00Z&Timestamp=2026-03-01T12%3A00%3A00Z"), errForm},
		{"query without", query("B=2"), errForm},
		{"query, no time", query("Timestamp=now"), errForm},
		{"query, bad escapes", query("Timestamp=%zz"), errForm},
		{"no method", "\n\n\n" + http(now) + "\n/", errForm},
		{"any text", "policy of a form", errForm},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, of := range []func() hash.Hash{sha1.New, sha256.New} {
				s := V2{StringToSign: tt.text, Signature: sign2(tt.text, "secret", of), SHA256: of().Size() == sha256.Size}
				if err := s.judge("secret", now); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				for _, bad := range []string{"", strings.TrimRight(s.Signature, "="), s.Signature + "=", "x" + s.Signature[1:]} {
					s.Signature = bad
					if err := s.judge("secret", now); err == nil {
						t.Errorf("accepted %q", bad)
					}
				}
			}
		})
	}
}

func FuzzV4(f *testing.F) {
	good, now := example()
	f.Add(good.StringToSign, good.Signature, good.Service, good.Region, good.SignedAt.Unix())
	f.Add("", strings.Repeat("0", 64), "a", "b", int64(0))
	f.Fuzz(func(t *testing.T, text, signature, service, region string, at int64) {
		s := V4{StringToSign: text, Signature: signature, Service: service, Region: region, SignedAt: time.Unix(at, 0)}
		if s.judge(exampleSecret, now) == nil && (s.StringToSign != good.StringToSign || s.Signature != good.Signature) {
			t.Errorf("accepted %+v", s)
		}
		_ = s.Verify("other") // of any shape
	})
}

func FuzzV2(f *testing.F) {
	f.Add("GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/b/k", true)
	f.Add("GET\nhost\n/\nTimestamp=2011-10-03T15%3A19%3A30", false)
	now := time.Unix(1_700_000_000, 0)
	f.Fuzz(func(t *testing.T, text string, sha bool) {
		s := V2{StringToSign: text, Signature: hex.EncodeToString([]byte(text)), SHA256: sha}
		if s.judge("secret", now) == nil {
			t.Errorf("accepted %q", text)
		}
	})
}
