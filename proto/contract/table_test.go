package contract

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// record is what a table says about the limits of one field or oneof.
type record struct {
	file  string            // the .proto file that declares it, at our path
	name  string            // full name
	label string            // single, optional, repeated, map; empty for a oneof
	typ   string            // type of the field; KEY,VALUE for a map
	attrs map[string]string // limits by name; the value of a mere mark is ""
}

// described are the attributes that say what a field is, not what it may hold.
var described = map[string]bool{"json": true, "oneof": true, "deprecated": true, "opt:yandex.cloud.sensitive_type": true}

// attr matches one attribute: a mark, or a name with a JSON string.
var attr = regexp.MustCompile(` ([A-Za-z_][A-Za-z0-9_.:]*)(?:="((?:[^"\\]|\\.)*)")?`)

// readTables returns the fields and oneofs of all tables in testdata, in order.
func readTables(t *testing.T) []record {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("find tables: %d found, %v", len(paths), err)
	}
	var all []record
	for _, path := range paths {
		all = append(all, readTable(t, path)...)
	}
	return all
}

// readTable reads one table. A line it does not understand fails the test.
func readTable(t *testing.T, path string) []record {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	var records []record
	var message, in string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := strings.TrimLeft(lines.Text(), " ")
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case "", "package", "source", "file", "import", "extension", "service", "rpc", "http", "op",
			"enum", "value", "reserved", "reserved_name":
			// Compared by descriptors.
		case "message":
			name, attrs := cutAttrs(t, rest, 1)
			message, in = name[0], herePath(attrs["file"])
		case "oneof":
			words, attrs := cutAttrs(t, rest, 1)
			records = append(records, record{file: in, name: message + "." + words[0], attrs: limitsOf(attrs)})
		case "field":
			words, attrs := cutAttrs(t, rest, 4)
			records = append(records, record{
				file: in, name: message + "." + words[1], label: words[2], typ: words[3], attrs: limitsOf(attrs),
			})
		default:
			if !strings.HasPrefix(line, "#") {
				t.Fatalf("%s: do not understand %q", path, line)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return records
}

// cutAttrs splits the rest of a record into its first n words and its attributes.
func cutAttrs(t *testing.T, rest string, n int) ([]string, map[string]string) {
	t.Helper()
	words := strings.SplitN(rest, " ", n+1)
	if len(words) < n {
		t.Fatalf("want %d words in %q", n, rest)
	}
	attrs := make(map[string]string)
	if len(words) > n {
		tail := " " + words[n]
		for _, match := range attr.FindAllStringSubmatch(tail, -1) {
			value, err := strconv.Unquote(`"` + match[2] + `"`)
			if err != nil {
				t.Fatalf("attribute %s of %q: %v", match[1], rest, err)
			}
			attrs[match[1]] = value
		}
		if left := strings.TrimSpace(attr.ReplaceAllString(tail, "")); left != "" {
			t.Fatalf("do not understand %q in %q", left, rest)
		}
	}
	return words[:n], attrs
}

// limitsOf leaves out the attributes that limit nothing.
func limitsOf(attrs map[string]string) map[string]string {
	limits := make(map[string]string)
	for name, value := range attrs {
		if !described[name] {
			limits[name] = value
		}
	}
	return limits
}

// herePath turns the published path of a file into ours.
func herePath(path string) string {
	if rest, ok := strings.CutPrefix(path, privateDir); ok {
		return privateDirHere + rest
	}
	return path
}
