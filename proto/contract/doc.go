// Package contract holds no code. Its tests compare proto/yandex with what is
// known of the platform's API: testdata/*.binpb are the descriptors of its public
// packages and of the private ones that others have published, testdata/*.txt the
// same with the limits of the fields as tables.
//
// They prove that an official client and bindery understand the same bytes, the
// same JSON and the same paths (descriptors_test.go), and that a request is
// refused for its form exactly when the platform would refuse it, but for the
// departures listed in limits_test.go.
package contract
