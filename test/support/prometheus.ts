import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { freePorts, type RunningServer, type ServerKind, supervise } from './servers.ts';

const BINARY = '/usr/bin/prometheus';
/** Checker of rules, part of the same package. */
export const PROMTOOL = '/usr/bin/promtool';
const START_MS = 60_000;

/** The Prometheus binary. Each test starts an instance for its own targets. */
export const prometheus: ServerKind = {
  name: 'prometheus',
  variable: 'FEEDCTL_TEST_PROMETHEUS',
  debianPackage: 'prometheus',
  installed: () => existsSync(BINARY) && existsSync(PROMTOOL),
  start: async () => ({ url: pathToFileURL(BINARY).href, stop: async () => {} }),
};

/** Starts an instance that scrapes these addresses (host:port) ten times a second. Files: `directory`. */
export async function startPrometheus(
  directory: string,
  targets: Readonly<Record<string, string>>,
): Promise<RunningServer> {
  const [port] = (await freePorts(1)) as [number];
  const config = join(directory, 'prometheus.yml');
  const jobs = Object.entries(targets).map(([name, target]) => ({
    job_name: name,
    static_configs: [{ targets: [target] }],
  }));
  // YAML includes JSON.
  await writeFile(
    config,
    JSON.stringify({ global: { scrape_interval: '100ms', scrape_timeout: '100ms' }, scrape_configs: jobs }),
  );
  const server = supervise(BINARY, [
    `--config.file=${config}`,
    `--storage.tsdb.path=${join(directory, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=error',
  ]);
  const url = `http://127.0.0.1:${port}`;
  let ended = false;
  void server.exited.then(() => {
    ended = true;
  });
  for (const until = Date.now() + START_MS; ; await sleep(50)) {
    if (ended) throw new Error('Prometheus ended at its start');
    if (
      await fetch(`${url}/-/ready`)
        .then((answer) => answer.ok)
        .catch(() => false)
    )
      break;
    if (Date.now() > until) throw new Error('Prometheus did not start within a minute');
  }
  return { url, stop: () => server.stop() };
}

/** Evaluates an expression: each value with its labels. */
export async function promQuery(
  url: string,
  expression: string,
): Promise<{ labels: Record<string, string>; value: number }[]> {
  const answer = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: expression })}`);
  const body = (await answer.json()) as {
    status: string;
    error?: string;
    data: { result: { metric: Record<string, string>; value: [number, string] }[] };
  };
  if (body.status !== 'success') throw new Error(`${expression}: ${body.error}`);
  return body.data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
}
