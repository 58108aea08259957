// What a user of the Node SDK can read of an error: its code, and from the
// trailer the details of google.rpc, whose messages the SDK does not carry.
'use strict';

const { Reader } = require('protobufjs/minimal');
const { codeToJSON } = require('@yandex-cloud/nodejs-sdk/google/rpc/code');
const { Status } = require('@yandex-cloud/nodejs-sdk/google/rpc/status');

// The string fields of one message by number, of those asked for.
function strings(bytes, ...numbers) {
  const found = {};
  const reader = Reader.create(bytes);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (numbers.includes(tag >>> 3)) {
      found[tag >>> 3] = reader.string();
    } else {
      reader.skipType(tag & 7);
    }
  }
  return found;
}

// google.rpc.BadRequest: field 1 repeats a violation, whose field 1 is a path.
function violatedFields(bytes) {
  const fields = [];
  const reader = Reader.create(bytes);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === 1) {
      fields.push(strings(reader.bytes(), 1)[1] || '');
    } else {
      reader.skipType(tag & 7);
    }
  }
  return fields;
}

// Of a failed operation the SDK throws the operation itself.
function answerOfError(error, trailer) {
  const { code, message } = error.error || error;
  const answer = { code: code === undefined ? 'NO_CODE' : codeToJSON(code), error: message || String(error) };
  const bytes = trailer && trailer.get('grpc-status-details-bin');
  if (!bytes) {
    return answer;
  }
  for (const detail of Status.decode(bytes).details) {
    if (detail.typeUrl.endsWith('/google.rpc.ErrorInfo')) {
      answer.reason = strings(detail.value, 1)[1];
    } else if (detail.typeUrl.endsWith('/google.rpc.BadRequest')) {
      answer.fields = violatedFields(detail.value);
    }
  }
  return answer;
}

module.exports = { answerOfError };
