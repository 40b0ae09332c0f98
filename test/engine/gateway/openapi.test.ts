import { Validator } from '@seriousme/openapi-schema-validator';
import { expect, test } from 'vitest';
import { served } from './served.ts';

// `npx vitest run test/engine/gateway/openapi.test.ts -u` regenerates docs/openapi.json.
test('docs/openapi.json is what the gateway serves, and valid OpenAPI 3.1', async () => {
  const { ask } = await served();
  const { body } = await ask('GET', '/openapi.json');
  expect(await new Validator().validate(structuredClone(body))).toMatchObject({ valid: true });
  expect(body.openapi).toBe('3.1.0');
  await expect(`${JSON.stringify(body, null, 2)}\n`).toMatchFileSnapshot('../../../docs/openapi.json');
});
