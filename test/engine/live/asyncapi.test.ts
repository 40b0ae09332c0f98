import { readFileSync } from 'node:fs';
import specs from '@asyncapi/specs';
import { Ajv } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { expect, test } from 'vitest';
import { CLOSE_CODES } from '../../../src/engine/live/session.ts';
import { MAX_POST_CHARACTERS } from '../../../src/engine/model/post.ts';
import { SOCKETS } from '../../../src/engine/resilience/limits.ts';
import { createPost, deletePost, updatePost } from '../../../src/engine/social/posts.ts';
import { followedAuthor } from '../../support/gateways.ts';
import type { Frame } from '../../support/liveSocket.ts';

const document = JSON.parse(
  readFileSync(new URL('../../../docs/asyncapi.json', import.meta.url), 'utf8'),
) as {
  info: { description: string };
  components: { messages: Record<string, unknown>; schemas: Record<string, { maxLength?: number }> };
};

test('docs/asyncapi.json is valid AsyncAPI 3.0', () => {
  const ajv = new Ajv({ strict: false, logger: false });
  const { definitions, ...rest } = specs.schemas['3.0.0'] as { definitions: Record<string, object> };
  // The standard's own schemas are among them, under the name that Ajv has them by already.
  const own = Object.entries(definitions).filter(
    ([name]) => name !== 'http://json-schema.org/draft-07/schema',
  );
  const valid = ajv.compile({ ...rest, definitions: Object.fromEntries(own) });
  expect(valid(document), JSON.stringify(valid.errors)).toBe(true);
  expect(valid({ ...document, channels: { posted: { address: 1 } } })).toBe(false);
});

test('its words have the numbers that hold', () => {
  const { description } = document.info;
  for (const code of Object.values(CLOSE_CODES)) expect(description).toContain(` ${code}`);
  expect(description).toContain(`this user (${SOCKETS.perUser})`);
  expect(description).toContain(`address (${SOCKETS.perIp.toLocaleString('en-US')})`);
  expect(description).toContain(`more than ${SOCKETS.inbound} messages`);
  expect(description).toContain(`more than ${SOCKETS.payloadBytes.toLocaleString('en-US')} bytes`);
  expect(description).toContain(`more than ${SOCKETS.bufferedBytes / 1024 ** 2} MiB`);
  expect(JSON.stringify(document.components.schemas.post)).toContain(`"maxLength":${MAX_POST_CHARACTERS}`);
});

test('every frame that is sent is as documented, and every one that is documented is sent', async () => {
  const ajv = new Ajv2020({ strict: true });
  addFormats.default(ajv);
  ajv.addSchema({ $id: 'asyncapi', components: document.components } as object, 'asyncapi');
  ajv.addVocabulary(['components']);
  const check = (frame: Frame) => {
    const valid = ajv.getSchema(`asyncapi#/components/schemas/${frame.messageId}`);
    if (!valid) return `no message ${frame.messageId} is documented`;
    return valid(frame) ? undefined : ajv.errorsText(valid.errors);
  };
  const { cluster, gateway, author, client } = await followedAuthor();
  const frames: Frame[] = [];
  client.onFrame = (frame) => frames.push(frame);
  await client.open(gateway.url);
  const { id } = await createPost(cluster, author, `a text with "quotes", \u0007 and ${'😀'.repeat(2_000)}`);
  await expect.poll(() => client.posts).toEqual([id]);
  await updatePost(cluster, id, 'another text');
  await expect.poll(() => client.edits.length).toBe(1);
  await deletePost(cluster, id);
  await expect.poll(() => client.deleted).toEqual([id]);
  await client.close();
  await client.open(gateway.url);
  for (const frame of frames) expect(check(frame), JSON.stringify(frame).slice(0, 300)).toBeUndefined();
  expect(frames.map(({ messageId }) => messageId)).toEqual(['hello', 'post', 'edited', 'deleted', 'hello']);
  expect(new Set(frames.map(({ messageId }) => messageId))).toEqual(
    new Set(Object.keys(document.components.messages)),
  );
  for (const frame of frames)
    expect(check({ ...frame, payload: { ...frame.payload, more: 1 } })).toBeDefined();
});
