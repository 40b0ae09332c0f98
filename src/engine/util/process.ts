/**
 * Returns whether a process of this machine runs. A process of another user, which must not be
 * signalled, counts as running.
 */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
