import { expect, test } from 'vitest';
import { placeOf } from '../../../src/engine/cluster/components.ts';

test.each([
  ['amqp://user:secret@b:5672/v, amqps://user:secret@a/v?heartbeat=5', 'a/v,b:5672/v'],
  ['redis://:se,cret@host:6379/2', 'host:6379/2'],
  ['redis+sentinel://user:se,cr@et@s2:26379,s1/group/0?sentinel_password=secret,1', 's1/group/0,s2:26379'],
  ['rediss+cluster://n1:6379,n2:6379', 'n1:6379,n2:6379'],
  ['redis://host/', 'host'],
])('what is recorded of %s names its servers and nothing else', (url, place) => {
  expect(placeOf(url)).toBe(place);
});
