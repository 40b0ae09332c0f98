import { BaseCommand } from '../cli/baseCommand.ts';
import { tableFlags } from '../cli/flags/output.ts';
import type { DoctorReport } from '../engine/monitoring/doctor.ts';

export default class Doctor extends BaseCommand {
  static override summary = 'Check everything the cluster needs, and suggest a fix for each fault';
  static override description = 'Shows every setting with its source. Exits 1 on a fault.';
  static override flags = tableFlags;
  static override examples = ['<%= config.bin %> doctor', '<%= config.bin %> doctor --json'];

  async run(): Promise<DoctorReport> {
    const { flags } = await this.parse(Doctor);
    const { diagnose } = await import('../engine/monitoring/doctor.ts');
    const report = await diagnose(await this.loadConfig(flags));
    this.log(`context ${report.context}`);
    await this.table(
      ['setting', 'value', 'from'],
      report.settings.map((s) => [s.name, s.value, s.source]),
    );
    const labels = { ok: 'ok', warning: 'WARNING', fault: 'FAULT' };
    for (const { name, status, detail, fix } of report.checks) {
      this.log(`${labels[status].padEnd(8)} ${name}: ${detail}${fix ? `\n         Try: ${fix}` : ''}`);
    }
    if (!report.ok) process.exitCode = 1;
    return report;
  }
}
