import { readFile, statfs } from 'node:fs/promises';
import { availableParallelism, cpus, freemem, hostname, loadavg, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

const SECTOR_BYTES = 512;
/** Time between the first two looks, so that the first view has rates too. */
const FIRST_MS = 250;
/** Devices that stand for others: partitions of disks, loops, memory. */
const NO_DISK = /^(loop|ram|zram|dm-|md|sr|fd)|^(sd|vd|xvd|hd)[a-z]+\d+$|^(nvme\d+n\d+|mmcblk\d+)p\d+$/;

/** The machine on which `top` runs. null: not known, as on systems without /proc, or in the first view. */
export interface MachineActivity {
  readonly host: string;
  readonly cpus: number;
  /** Share of all cores that is not idle. */
  readonly cpuShare: number | null;
  /** Processes that run or want to run, over 1, 5 and 15 minutes. */
  readonly load: readonly number[];
  readonly memoryBytes: number;
  readonly memoryUsedBytes: number;
  /** The disk of the data directory, or of the working directory. */
  readonly diskBytes: number | null;
  readonly diskFreeBytes: number | null;
  readonly diskReadPerSecond: number | null;
  readonly diskWrittenPerSecond: number | null;
  /** Bytes of all network interfaces except the loopback. */
  readonly receivedPerSecond: number | null;
  readonly sentPerSecond: number | null;
}

interface Sample {
  readonly atMs: number;
  readonly busy: number;
  readonly total: number;
  readonly disk: readonly [number, number] | null;
  readonly network: readonly [number, number] | null;
}

const textOf = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '');

/** Returns bytes read from disks and written to them, from the text of /proc/diskstats. */
export function diskBytes(text: string): readonly [number, number] | null {
  const disks = text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , name]) => name !== undefined && !NO_DISK.test(name));
  if (disks.length === 0) return null;
  const sum = (field: number) => disks.reduce((total, fields) => total + Number(fields[field] ?? 0), 0);
  return [sum(5) * SECTOR_BYTES, sum(9) * SECTOR_BYTES];
}

/** Returns bytes received and sent, from the text of /proc/net/dev. */
export function networkBytes(text: string): readonly [number, number] | null {
  const interfaces = text.split('\n').flatMap((line) => {
    const [, name, counts] = /^\s*([^\s:|]+):\s*(.*)$/.exec(line) ?? [];
    return name && counts && name !== 'lo' ? [counts.trim().split(/\s+/).map(Number)] : [];
  });
  if (interfaces.length === 0) return null;
  const sum = (field: number) => interfaces.reduce((total, counts) => total + (counts[field] ?? 0), 0);
  return [sum(0), sum(8)];
}

async function takeSample(): Promise<Sample> {
  const times = cpus().map(({ times: one }) => one);
  const total = times.reduce((sum, one) => sum + one.user + one.nice + one.sys + one.idle + one.irq, 0);
  const idle = times.reduce((sum, one) => sum + one.idle, 0);
  const [disks, network] = await Promise.all([textOf('/proc/diskstats'), textOf('/proc/net/dev')]);
  return {
    atMs: performance.now(),
    busy: total - idle,
    total,
    disk: diskBytes(disks),
    network: networkBytes(network),
  };
}

/** Returns a function that looks at this machine. `path`: a directory on the disk that matters. */
export function machineWatch(path: string): () => Promise<MachineActivity> {
  let before: Sample | undefined;
  return async () => {
    if (!before) {
      before = await takeSample();
      await sleep(FIRST_MS);
    }
    const now = await takeSample();
    const first = before;
    before = now;
    const seconds = (now.atMs - first.atMs) / 1_000;
    const rate = (name: 'disk' | 'network', index: 0 | 1): number | null => {
      const [from, to] = [first[name]?.[index], now[name]?.[index]];
      return from === undefined || to === undefined || to < from || seconds <= 0
        ? null
        : (to - from) / seconds;
    };
    const ticks = now.total - first.total;
    const disk = await statfs(path).catch(() => undefined);
    return {
      host: hostname(),
      cpus: availableParallelism(),
      cpuShare: ticks > 0 ? (now.busy - first.busy) / ticks : null,
      load: loadavg(),
      memoryBytes: totalmem(),
      memoryUsedBytes: totalmem() - freemem(),
      diskBytes: disk ? disk.blocks * disk.bsize : null,
      diskFreeBytes: disk ? disk.bavail * disk.bsize : null,
      diskReadPerSecond: rate('disk', 0),
      diskWrittenPerSecond: rate('disk', 1),
      receivedPerSecond: rate('network', 0),
      sentPerSecond: rate('network', 1),
    };
  };
}
