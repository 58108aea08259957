// Package e2e tests the built program from outside, as its users meet it.
//
//   - The official clients, unmodified, and REST go through one scenario
//     (testdata/scenario_*.yaml) and must get the same answers. gosdkv1, gosdkv2 and
//     nodesdk are programs around the SDKs, outside this module: the SDKs exclude
//     each other, and they and our stubs register the same proto names.
//   - The calls of the Terraform provider are made resource by resource, in its order,
//     and their answers judged as strictly as it does (terraform_test.go).
//   - The program is killed in the middle of concurrent writes, and what it had
//     acknowledged must hold afterwards (crash_test.go).
//   - Requests are sent ten times at once with their idempotency keys, and until they
//     are answered while the program is killed; each has one effect
//     (idempotency_test.go; BINDERY_IDEMPOTENCY_REQUESTS says how many).
//   - The command line does what it says (testdata/*.txtar).
//
// Every test runs on SQLite and on PostgreSQL. They start processes and take
// their time, so -short skips them. BINDERY_REQUIRE_NODE=1 and
// BINDERY_REQUIRE_DB=1 turn what the machine lacks from a skip into a failure. By
// hand, run them with -count=1: the test cache does not see what the programs they
// start are built from.
package e2e
