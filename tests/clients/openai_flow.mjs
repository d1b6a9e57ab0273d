// All that a user of the OpenAI SDK for JavaScript does with batches: `node openai_flow.mjs BASE_URL`.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { Readable } from 'node:stream';
import OpenAI, { toFile } from 'openai';
import { VERSION } from 'openai/version';

const LINES = 12;
const [baseURL] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'unused' });

const line = (number, model, text) => ({
  custom_id: `line-${number}`,
  method: 'POST',
  url: '/v1/chat/completions',
  body: { model, messages: [{ role: 'user', content: text }] },
});
const lines = (model, text) => Array.from({ length: LINES }, (_, n) => line(n, model, text));
const jsonl = (requests) => requests.map((one) => JSON.stringify(one)).join('\n');
const upload = async (requests) =>
  client.files.create({ file: await toFile(Buffer.from(jsonl(requests)), 'requests.jsonl'), purpose: 'batch' });
const submit = (file, more = {}) =>
  client.batches.create({ input_file_id: file, endpoint: '/v1/chat/completions', completion_window: '24h', ...more });

async function until(what, shown = () => what) {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 100))) {
    const found = await what();
    if (found) return found;
  }
  throw new Error(`not in a minute: ${shown()}`);
}

async function poll(id, ...statuses) {
  let batch;
  const arrives = async () => statuses.includes((batch = await client.batches.retrieve(id)).status) && batch;
  return until(arrives, () => `${statuses}: ${JSON.stringify(batch)}`);
}

async function streamsUploads() {
  const text = jsonl(lines('lab/tiny', 'Hello'));
  fs.writeFileSync('requests.jsonl', text);
  const files = [
    fs.createReadStream('requests.jsonl'),
    await toFile(fs.createReadStream('requests.jsonl'), 'requests.jsonl'),
    await toFile(Readable.from([text.slice(0, 99), text.slice(99)].map((part) => Buffer.from(part))), 'pieces.jsonl'),
    new File([text], 'file.jsonl'),
  ];
  for (const file of files) {
    const stored = await client.files.create({ file, purpose: 'batch', expires_after: { anchor: 'created_at', seconds: 3600 } });
    assert.deepEqual([stored.purpose, stored.bytes, stored.status], ['batch', text.length, 'processed']);
    assert.equal(stored.expires_at, stored.created_at + 3600);
    assert.equal(await (await client.files.content(stored.id)).text(), text);
    assert.equal((await client.files.waitForProcessing(stored.id)).id, stored.id);
    assert.equal((await client.files.delete(stored.id)).deleted, true);
  }
}

async function completes() {
  const file = await upload([...lines('simulator/tiny', 'Hello').slice(1), line(0, 'lab/tiny', '[[status=400]] Hello')]);
  const batch = await submit(file.id, { metadata: { run: '7' } });
  assert.deepEqual([batch.object, batch.status, batch.metadata], ['batch', 'validating', { run: '7' }]);
  const done = await poll(batch.id, 'completed', 'failed');
  assert.equal(done.status, 'completed');
  assert.deepEqual(done.request_counts, { total: LINES, completed: LINES - 1, failed: 1 });
  const answers = (await (await client.files.content(done.output_file_id)).text()).trimEnd().split('\n').map((one) => JSON.parse(one));
  assert.deepEqual(answers.map((one) => one.custom_id), Array.from({ length: LINES - 1 }, (_, n) => `line-${n + 1}`));
  assert.ok(answers.every((one) => one.response.body.choices[0].message.content));
  const error = JSON.parse(await (await client.files.content(done.error_file_id)).text());
  assert.deepEqual([error.custom_id, error.response.status_code], ['line-0', 400]);
  assert.equal(done.usage.total_tokens, done.usage.input_tokens + done.usage.output_tokens);
}

async function failsValidation() {
  const requests = [line(1, 'simulator/tiny', 'a'), line(1, 'simulator/tiny', 'b'), line(2, 'nowhere/model', 'c')];
  const failed = await poll((await submit((await upload(requests)).id)).id, 'failed', 'completed');
  const found = failed.errors.data.map((one) => [one.line, one.code, one.param]);
  assert.deepEqual(found, [[2, 'duplicate_custom_id', 'custom_id'], [3, 'model_not_found', 'body.model']]);
}

async function cancels() {
  const batch = await submit((await upload(lines('lab/tiny', '[[delay=3]] Hello'))).id);
  await poll(batch.id, 'in_progress');
  assert.equal((await client.batches.cancel(batch.id)).status, 'cancelling');
  const done = await poll(batch.id, 'cancelled');
  assert.equal(done.request_counts.completed + done.request_counts.failed, LINES);
  await assert.rejects(client.batches.cancel(batch.id), OpenAI.ConflictError);
}

async function pages() {
  const file = await upload(lines('simulator/tiny', 'Hello'));
  const made = [];
  for (let n = 0; n < 5; n++) made.unshift((await submit(file.id, { metadata: { n: String(n) } })).id);
  const seen = [];
  for await (const batch of client.batches.list({ limit: 2 })) seen.push(batch.id);
  assert.deepEqual(seen.slice(0, 5), made);
  assert.equal(new Set(seen).size, seen.length);
  const files = [];
  for await (const one of client.files.list({ purpose: 'batch', limit: 3, order: 'asc' })) files.push(one.id);
  assert.equal(files.at(-1), file.id);
  assert.equal(new Set(files).size, files.length);
  for (const id of made) await poll(id, 'completed');
}

async function errorsAreTyped() {
  await assert.rejects(client.batches.retrieve('batch_none'), OpenAI.NotFoundError);
  await assert.rejects(client.files.content('file-none'), OpenAI.NotFoundError);
  await assert.rejects(submit('file-none'), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.param, error.code, Boolean(error.requestID)], ['input_file_id', 'file_not_found', true]);
    return true;
  });
  await assert.rejects(client.files.create({ file: await toFile(Buffer.from('{}'), 'a.jsonl'), purpose: 'porpoise' }), OpenAI.BadRequestError);
}

async function hearsWebhooks() {
  const got = [];
  const receiver = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part)).on('end', () => {
      got.push({ headers: request.headers, body: Buffer.concat(parts).toString() });
      response.end();
    });
  });
  await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${receiver.address().port}/hook`;
  const wanted = { name: 'mine', url, event_types: ['batch.completed'] };
  const endpoint = client.webhooks.create ? await client.webhooks.create(wanted) : await client.post('/webhook_endpoints', { body: wanted });
  const batch = await submit((await upload(lines('simulator/tiny', 'Hello'))).id);
  const { headers, body } = await until(() => got.find((one) => one.body.includes(batch.id)));
  const event = await client.webhooks.unwrap(body, headers, endpoint.signing_secret);
  assert.deepEqual([event.object, event.type, event.data.id], ['event', 'batch.completed', batch.id]);
  assert.equal((await client.batches.retrieve(event.data.id)).status, 'completed');
  await assert.rejects(client.webhooks.unwrap(body.replace('batch_', 'botch_'), headers, endpoint.signing_secret), OpenAI.InvalidWebhookSignatureError);
  if (client.webhooks.create) await managesEndpoints(endpoint, got);
  receiver.close();
}

async function managesEndpoints(endpoint, got) {
  const { webhooks } = client;
  assert.ok((await webhooks.eventTypes.list()).data.includes('batch.expired'));
  assert.equal((await webhooks.update(endpoint.id, { name: 'ours' })).name, 'ours');
  assert.equal((await webhooks.retrieve(endpoint.id)).name, 'ours');
  const rotated = await webhooks.rotateSecret(endpoint.id, { keep_old_secret_active_for_24_hours: true });
  const before = got.length;
  assert.equal((await webhooks.test(endpoint.id, { event_type: 'batch.failed' })).success, true);
  const { headers, body } = await until(() => got[before]);
  for (const secret of [endpoint.signing_secret, rotated.signing_secret]) {
    assert.equal((await webhooks.unwrap(body, headers, secret)).type, 'batch.failed');
  }
  const again = await webhooks.rotateSecret(endpoint.id);
  assert.notEqual(again.signing_secret, rotated.signing_secret);
  const more = await webhooks.create({ name: 'more', url: endpoint.url, event_types: ['batch.failed'] });
  const seen = [];
  for await (const one of webhooks.list({ limit: 1 })) seen.push(one.id);
  assert.deepEqual(seen.splice(0, 2), [more.id, endpoint.id]);
  for (const id of [more.id, endpoint.id]) assert.equal((await webhooks.delete(id)).deleted, true);
  await assert.rejects(webhooks.retrieve(endpoint.id), OpenAI.NotFoundError);
}

for (const step of [streamsUploads, completes, failsValidation, cancels, pages, errorsAreTyped, hearsWebhooks]) {
  await step();
}
console.log(`openai ${VERSION}: all passed`);
