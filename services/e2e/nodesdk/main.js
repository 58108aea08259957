// Makes calls with the official Node SDK, unmodified, as its users would: reads
// one call per line of JSON from its input and writes one answer per line. The
// tests of the folder above drive it through their scenario.
//
// The SDK knows its endpoints by heart and speaks TLS only, and its exchange of
// an OAuth token takes neither an endpoint nor a CA. So it runs as behind a
// company proxy: grpc_proxy names a proxy that leads every name to the server,
// and GRPC_DEFAULT_SSL_ROOTS_FILE_PATH the CA of the certificate found there.
'use strict';

process.env.LOG_LEVEL = 'off'; // the SDK logs to the standard output, which is for answers

const readline = require('node:readline');
const { Session, waitForOperation } = require('@yandex-cloud/nodejs-sdk');
const { calls, show } = require('./calls');
const { answerOfError } = require('./errors');

const sessions = new Map();

// The SDK has names of its own for the parts of a key.
function configOf({ accountKey, ...credential }) {
  if (!accountKey) {
    return credential;
  }
  return {
    serviceAccountJson: {
      accessKeyId: accountKey.id,
      serviceAccountId: accountKey.service_account_id,
      privateKey: accountKey.private_key,
    },
  };
}

// One SDK session per credential, as one program of each user would have.
function sessionOf(credential) {
  const key = JSON.stringify(credential);
  if (!sessions.has(key)) {
    sessions.set(key, new Session(configOf(credential)));
  }
  return sessions.get(key);
}

// Proto JSON writes a field mask as a string; the SDK's fromJSON wants a message.
function parse(type, message = {}) {
  const { updateMask, ...rest } = message;
  const mask = updateMask === undefined ? {} : { updateMask: { paths: updateMask.split(',') } };
  return type.fromJSON({ ...rest, ...mask });
}

async function perform(request, options) {
  const rpc = calls[request.call];
  if (!rpc) {
    throw new Error(`no such call: ${request.call}`);
  }
  const session = sessionOf(request.session);
  const client = session.client(rpc.client);
  const message = parse(rpc.request, request.message);
  if (request.all) {
    return { [rpc.items]: await everyPage(client, rpc, message, options) };
  }
  const answer = await client[rpc.method](message, options);
  if (request.wait) {
    return show(rpc.answer.toJSON(await waitForOperation(answer, session)));
  }
  return show(rpc.answer.toJSON(answer));
}

// The SDK has no iterator; this is the loop that its users write.
async function everyPage(client, rpc, message, options) {
  const items = [];
  let pageToken = '';
  do {
    const page = await client[rpc.method]({ ...message, pageToken }, options);
    items.push(...show(rpc.answer.toJSON(page))[rpc.items]);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return items;
}

async function answerTo(request) {
  let trailer;
  const onTrailer = (metadata) => { trailer = metadata; };
  try {
    return { code: 'OK', message: await perform(request, { onTrailer }) };
  } catch (error) {
    await new Promise(setImmediate); // the trailer is told after the error
    return answerOfError(error, trailer);
  }
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const answer = await answerTo(JSON.parse(line));
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  process.exit(0); // the SDK keeps its connections open
}

main().catch((error) => {
  process.stderr.write(`nodesdk: ${error.stack}\n`);
  process.exit(1);
});
