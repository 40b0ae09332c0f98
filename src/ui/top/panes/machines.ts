import type { MachineActivity } from '../../../engine/monitoring/top/machine.ts';
import type { TopSnapshot } from '../../../engine/monitoring/top/snapshot.ts';
import { numberColumn, shareText, sizeText } from '../../columns/column.ts';
import { formatBytes, formatCount } from '../../terminal/format.ts';
import { pane } from '../pane.ts';

/** This machine, or a process of the cluster anywhere. */
interface MachineRow {
  readonly kind: 'this machine' | 'worker' | 'gateway';
  readonly id: string;
  readonly name: string;
  /** Share of one core for a process, of all cores for a machine. */
  readonly cpu: number | null;
  readonly memoryBytes: number | null;
  readonly machine: MachineActivity | null;
}

function machinesOf({ machine, workers, gateways }: TopSnapshot): MachineRow[] | null {
  if (!machine && !workers && !gateways) return null;
  const none = { machine: null };
  return [
    ...(machine
      ? [
          {
            kind: 'this machine' as const,
            id: 'machine',
            name: machine.host,
            cpu: machine.cpuShare,
            memoryBytes: machine.memoryUsedBytes,
            machine,
          },
        ]
      : []),
    ...(workers ?? []).map(({ id, host, pid, work, memoryBytes }) => ({
      ...{ kind: 'worker' as const, id, name: `${host} ${pid}`, ...none },
      ...{ cpu: work?.cpu ?? null, memoryBytes: work?.memoryBytes ?? memoryBytes },
    })),
    ...(gateways ?? []).map(({ id, url, work }) => ({
      ...{ kind: 'gateway' as const, id, name: url, ...none },
      ...{ cpu: work?.cpu ?? null, memoryBytes: work?.memoryBytes ?? null },
    })),
  ];
}

const share = (part: number, whole: number): string => `${Math.round((part / whole) * 100)}%`;
const rate = (bytes: number | null): string => (bytes === null ? 'not known' : `${formatBytes(bytes)}/s`);
const compact = (bytes: number): string => formatBytes(bytes);

const diskText = ({ diskBytes, diskFreeBytes }: MachineActivity): string =>
  diskBytes === null || diskFreeBytes === null
    ? 'not known'
    : `${formatBytes(diskFreeBytes)} free of ${formatBytes(diskBytes)}`;

/** The machine of this `top`, and what workers and gateways report of their processes. */
export const MACHINES_PANE = pane<MachineRow>({
  id: 'machines',
  hotkey: 'm',
  title: 'Machines',
  short: 'Hosts',
  source: 'machine',
  asks: 'machine',
  charts: ['cpu', 'memory', 'network', 'disk'],
  rows: machinesOf,
  key: (row) => row.id,
  empty: () => 'no process reports',
  columns: [
    { title: 'host or process', width: 18, maxWidth: 44, priority: 0, text: (row) => row.name },
    { title: 'kind', width: 12, priority: 1, text: (row) => row.kind, tone: () => 'dim' },
    numberColumn({
      title: 'cpu',
      width: 5,
      priority: 2,
      of: (row) => row.cpu,
      format: shareText,
      tone: (row) => ((row.cpu ?? 0) > 0.7 ? 'warn' : 'plain'),
    }),
    numberColumn({ title: 'memory', width: 9, priority: 3, of: (row) => row.memoryBytes, format: compact }),
    {
      title: 'load',
      width: 16,
      right: true,
      priority: 4,
      text: ({ machine }) => machine?.load.map((one) => one.toFixed(2)).join(' ') ?? '',
      value: ({ machine }) => machine?.load[0] ?? null,
      tone: ({ machine }) => (machine && machine.load[0]! > machine.cpus ? 'warn' : 'plain'),
    },
    {
      title: 'disk',
      width: 10,
      maxWidth: 26,
      priority: 5,
      text: ({ machine }) => (machine ? diskText(machine) : ''),
    },
    {
      title: 'received',
      width: 11,
      right: true,
      priority: 6,
      text: ({ machine }) => (machine ? rate(machine.receivedPerSecond) : ''),
    },
    {
      title: 'sent',
      width: 11,
      right: true,
      priority: 7,
      text: ({ machine }) => (machine ? rate(machine.sentPerSecond) : ''),
    },
  ],
  detail: ({ kind, id, name, cpu, memoryBytes, machine }) =>
    machine
      ? [
          ['this machine', machine.host],
          ['cores', formatCount(machine.cpus)],
          ['CPU, all cores', cpu === null ? 'not known' : shareText(cpu)],
          ['load over 1, 5 and 15 minutes', machine.load.map((one) => one.toFixed(2)).join('  ')],
          [
            'memory',
            `${formatBytes(machine.memoryUsedBytes)} of ${formatBytes(machine.memoryBytes)}, ` +
              share(machine.memoryUsedBytes, machine.memoryBytes),
          ],
          ['disk', diskText(machine)],
          ['read from disks', rate(machine.diskReadPerSecond)],
          ['written to disks', rate(machine.diskWrittenPerSecond)],
          ['received', rate(machine.receivedPerSecond)],
          ['sent', rate(machine.sentPerSecond)],
        ]
      : [
          [kind, id],
          ['place', name],
          ['CPU, of one core', cpu === null ? 'not reported' : shareText(cpu)],
          ['memory', sizeText(memoryBytes)],
        ],
  leadsTo: ({ kind, id }) =>
    kind === 'this machine' ? undefined : { pane: kind === 'worker' ? 'workers' : 'gateways', key: id },
});
