// Writes docs/reference/configuration.md: every setting, and every environment variable that feedctl reads.
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Command, Config } from '@oclif/core';
import { fileVariable, SETTINGS } from '../src/engine/config/settings.ts';
import { wrap } from './markdown.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = 'docs/reference/';

type Flag = Command.Flag.Cached;
/** Name and meaning, default included. */
type Variable = readonly [name: string, about: string];

/** Defaults of flags that have none in their definition, because a command chooses it. */
const DEFAULTS: Readonly<Record<string, string>> = {
  FEEDCTL_LOG_LEVEL: '`info`, and `warn` for `up`',
  FEEDCTL_PARTITIONS: 'the current number, and 8 for a new cluster',
};

/** Variables that no flag and no setting stands for, by the heading of their section. */
const OTHERS: Readonly<Record<string, readonly Variable[]>> = {
  'Traces by OpenTelemetry': [
    [
      'OTEL_EXPORTER_OTLP_ENDPOINT',
      'URL of the collector, such as `http://collector:4318`. Traces are sent to `/v1/traces` below it; ' +
        'the second name holds the complete URL. Default: none; feedctl then makes no traces.',
    ],
    ['OTEL_EXPORTER_OTLP_PROTOCOL', '`http/protobuf` or `http/json`. Default: `http/protobuf`.'],
    [
      'OTEL_EXPORTER_OTLP_HEADERS',
      'Headers of each request, as `key=value,key=value`, percent-encoded. Default: none.',
    ],
    ['OTEL_EXPORTER_OTLP_COMPRESSION', '`none` or `gzip`. Default: `none`.'],
    ['OTEL_EXPORTER_OTLP_TIMEOUT', 'Milliseconds that a request may take. Default: `10000`.'],
    [
      'OTEL_EXPORTER_OTLP_CERTIFICATE',
      'File with the certificates of the authorities that feedctl trusts. Default: those of Node.',
    ],
    [
      'OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE',
      'File with the certificate that feedctl shows to the collector. Default: none.',
    ],
    ['OTEL_EXPORTER_OTLP_CLIENT_KEY', 'File with the private key of that certificate. Default: none.'],
    [
      'OTEL_SERVICE_NAME',
      'Name of the service. Default: `feedctl-worker`, `feedctl-gateway` or `feedctl-up`.',
    ],
    [
      'OTEL_RESOURCE_ATTRIBUTES',
      'More attributes of the service, as `key=value,key=value`, percent-encoded. Default: none.',
    ],
    [
      'OTEL_TRACES_SAMPLER',
      '`always_on`, `always_off` or `traceidratio`, each also with the prefix `parentbased_`. Default: ' +
        '`parentbased_always_on`.',
    ],
    ['OTEL_TRACES_SAMPLER_ARG', 'Share of traces for `traceidratio`, from 0 to 1. Default: `1`.'],
    ['OTEL_BSP_SCHEDULE_DELAY', 'Milliseconds between two batches of spans. Default: `5000`.'],
    [
      'OTEL_BSP_MAX_QUEUE_SIZE',
      'Maximum number of spans that wait for the collector. More are dropped. Default: `2048`.',
    ],
    ['OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 'Maximum number of spans in a batch. Default: `512`.'],
    ['OTEL_SDK_DISABLED', '`true` switches traces off. Default: `false`.'],
    ['OTEL_TRACES_EXPORTER', '`otlp`, or `none` to switch traces off. Default: `otlp`.'],
    [
      'FEEDCTL_TRUST_TRACEPARENT',
      '`true` makes a request part of its caller’s trace, which then decides the sampling. Set it only ' +
        'for gateways that no untrusted client can reach. Default: `false`.',
    ],
  ],
  'Files of the user': [
    ['HOME', 'Home of the user, `~` below. Default: the system’s entry of the user, or `/` without one.'],
    ['XDG_CONFIG_HOME', 'Directory above `feedctl/contexts.json`, the context file. Default: `~/.config`.'],
    [
      'XDG_CACHE_HOME',
      'Directory above `feedctl`, in which Node keeps compiled code for a faster start. Default: `~/.cache`.',
    ],
    [
      'XDG_STATE_HOME',
      'Directory above `feedctl/top.json`, the last pane of `top`. Default: `~/.local/state`.',
    ],
    ['XDG_DATA_HOME', 'Directory above `feedctl`, the default of `dataDir`. Default: `~/.local/share`.'],
    [
      'KUBECONFIG',
      'File with the clusters and users of Kubernetes. Default: `~/.kube/config`, or else the service ' +
        'account of the pod.',
    ],
  ],
  'Terminal and diagnosis': [
    [
      'DEBUG',
      'Any value: an error is printed with its stack. `*` also prints the steps of the command parser.',
    ],
    ['NO_COLOR', 'Any value: no output has colours.'],
    ['FORCE_COLOR', '`1` keeps colours even if neither stdout nor stderr is a terminal.'],
    [
      'TERM',
      '`dumb` makes `top` print one snapshot instead of a full screen. Tables have ASCII characters only.',
    ],
    [
      'LC_ALL',
      'Locale. Tables have ASCII characters only if its character set is not UTF-8. If it is empty, ' +
        '`LC_CTYPE` and then `LANG` stand for it.',
    ],
    [
      'USER',
      'Name of the operator that operations record, if the operating system has no name for the user id.',
    ],
  ],
  'Internal variables': [
    ['SHELL', 'feedctl sets it to `/bin/sh` if the operating system has no entry for the user id.'],
    [
      'FEEDCTL_REEXEC',
      'Marks a process that the launcher or a benchmark started, and that ends together with it. ' +
        'Do not set it.',
    ],
    [
      'OCLIF_DISABLE_ENGINE_WARNING',
      'feedctl sets it to `1`, because it checks the version of Node by itself.',
    ],
    ['NODE_ENV', '`top` sets it to `production` if it is not set, so that React skips its checks.'],
  ],
};

const INTRODUCTIONS: Readonly<Record<string, string>> = {
  'Traces by OpenTelemetry':
    'Workers, gateways and `up` read these variables. Those that begin with `OTEL_` belong to the ' +
    'OpenTelemetry standard. If a variable has a second name, the second one takes precedence. ' +
    '[Logs, metrics and traces](../guides/telemetry.md) describes the traces.',
};

const HEAD = `# Configuration

feedctl takes a value from the first of these places that has one:

1. the flag,
2. the environment variable,
3. the context in the context file,
4. the default.

An empty variable counts as not set. \`feedctl doctor\` shows each setting of the cluster with its source.
`;

const CONTEXTS = `## Contexts

A context gives a name to a cluster and holds its settings.

- Flag: \`--context\`
- Environment variable: \`FEEDCTL_CONTEXT\`
- Context file: \`current\`
- Default: \`local\`, the embedded cluster, which needs no entry

The context file is \`~/.config/feedctl/contexts.json\`, or \`feedctl/contexts.json\` below
\`$XDG_CONFIG_HOME\`. Only its owner can read it. \`feedctl context add\`, \`use\` and \`remove\` change it:

\`\`\`json
{
  "current": "prod",
  "contexts": {
    "prod": { "databaseUrlFrom": { "command": "pass show feeds/prod" }, "production": true },
    "staging": { "databaseUrl": "postgres://feeds@db.staging/feeds" }
  }
}
\`\`\`

A setting that may contain a password has a second field, whose name ends in \`From\`. It names the source
of the value: \`{ "env": "NAME" }\`, \`{ "file": "PATH" }\` or \`{ "command": "COMMAND" }\`. feedctl reads the
source when it needs the value, and uses the first line. A command may take 10 seconds. Roles read files and
commands again for new connections: see [servers](../guides/servers.md#passwords-that-change).
`;

/** Returns the text of docs/reference/configuration.md. Needs the built commands. */
export async function configurationPage(): Promise<string> {
  const config = await Config.load({ root: ROOT, version: '' });
  const commands = config.commands.filter(({ pluginName, hidden }) => pluginName === config.name && !hidden);
  return [
    HEAD,
    CONTEXTS,
    '## Settings of the cluster\n',
    ...Object.entries(SETTINGS).map(([name, setting]) => settingSection(name, setting, commands)),
    '## Settings of single commands\n',
    ...wrap(
      'No context holds these values. All other flags are in the [reference of commands](../cli/README.md).',
    ),
    '',
    ...flagSections(commands),
    ...Object.entries(OTHERS).map(otherSection),
  ].join('\n');
}

type SettingRow = (typeof SETTINGS)[keyof typeof SETTINGS];

function settingSection(name: string, setting: SettingRow, commands: readonly Command.Loadable[]): string {
  const flag = 'flag' in setting ? setting.flag : undefined;
  const addFlag = kebab(name);
  const added = commands.find(({ id }) => id === 'context:add')!.flags[addFlag] && !flag;
  const fields = [`\`${name}\``, ...(setting.secret ? [`\`${name}From\``] : [])].join(' or ');
  const file = setting.secret ? `, or \`${fileVariable(setting.variable)}\`: a file with the value` : '';
  const lines = [
    ...(flag ? [`Flag: \`--${flag}\`, of ${commandsWith(flag, commands)}`] : []),
    `Environment variable: \`${setting.variable}\`${file}`,
    `Context file: ${fields}${added ? `, set by \`feedctl context add --${addFlag}\`` : ''}`,
    `Default: ${setting.fallback}`,
  ];
  return section(name, setting.about, lines);
}

/**
 * Returns a section for each flag that has an environment variable. Flags of settings have none, because
 * `loadConfig` reads their variables.
 */
function flagSections(commands: readonly Command.Loadable[]): string[] {
  const flags = commands.flatMap((command) => Object.values(command.flags));
  const byName = new Map(flags.flatMap((flag): [string, Flag][] => (flag.env ? [[flag.name, flag]] : [])));
  byName.delete('context');
  return [...byName.keys()].sort().map((name) => {
    const flag = byName.get(name)!;
    const env = flag.env as string;
    const several = 'multiple' in flag && flag.multiple ? '; commas separate several values' : '';
    return section(`--${name}`, sentence(flag.description ?? flag.summary ?? ''), [
      `Commands: ${commandsWith(name, commands)}`,
      `Environment variable: \`${env}\`${several}`,
      `Default: ${flag.default === undefined ? (DEFAULTS[env] ?? 'not set') : `\`${flag.default}\``}`,
    ]);
  });
}

function otherSection([title, variables]: [string, readonly Variable[]]): string {
  const introduction = INTRODUCTIONS[title];
  return [
    `## ${title}\n`,
    ...(introduction === undefined ? [] : [...wrap(introduction), '']),
    ...variables.flatMap(([name, about]) => wrap(`- ${namesOf(name)}: ${about}`, '  ')),
    '',
  ].join('\n');
}

/** Adds the name that a variable of the OTLP exporter has for traces alone. */
function namesOf(name: string): string {
  const OTLP = 'OTEL_EXPORTER_OTLP_';
  const names = name.startsWith(OTLP) ? [name, name.replace(OTLP, `${OTLP}TRACES_`)] : [name];
  return names.map((one) => `\`${one}\``).join(', ');
}

function section(title: string, about: string, lines: readonly string[]): string {
  const list = lines.flatMap((line) => wrap(`- ${line}`, '  '));
  return `### \`${title}\`\n\n${[...wrap(about), '', ...list].join('\n')}\n`;
}

function commandsWith(flag: string, commands: readonly Command.Loadable[]): string {
  const takers = commands.filter(({ flags }) => flags[flag]);
  if (takers.length === commands.length) return 'every command';
  return takers
    .map(({ id }) => `\`${id.replaceAll(':', ' ')}\``)
    .sort()
    .join(', ');
}

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

const sentence = (text: string): string =>
  `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`;

if (import.meta.main) {
  mkdirSync(ROOT + FOLDER, { recursive: true });
  writeFileSync(`${ROOT}${FOLDER}configuration.md`, await configurationPage());
}
