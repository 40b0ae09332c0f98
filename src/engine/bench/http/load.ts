// Process of `bench http`: the clients.
import { Client } from 'undici';
import { answerParent } from '../push/answering.ts';
import type { LoadCalls } from './calls.ts';

answerParent<LoadCalls>({
  async run({ url, tokens, connections, seconds }) {
    const headers = tokens.map((token) => ({ authorization: `Bearer ${token}` }));
    const latencyMs: number[] = [];
    let [next, errors, bytes] = [0, 0, 0];
    const startedAt = performance.now();
    const until = startedAt + seconds * 1000;
    const ask = async () => {
      const client = new Client(url);
      for (let askedAt = performance.now(); askedAt < until; askedAt = performance.now()) {
        next = (next + 1) % headers.length;
        const { statusCode, body } = await client.request({
          path: '/post/feed',
          method: 'GET',
          headers: headers[next]!,
        });
        for await (const chunk of body) bytes += chunk.length;
        if (statusCode !== 200) errors += 1;
        latencyMs.push(performance.now() - askedAt);
      }
      await client.close();
    };
    await Promise.all(Array.from({ length: connections }, ask));
    const took = (performance.now() - startedAt) / 1000;
    return { requests: latencyMs.length, errors, bytes, seconds: took, latencyMs };
  },
});
