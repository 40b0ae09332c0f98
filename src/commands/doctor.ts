import { BaseCommand } from '../cli/baseCommand.ts';
import { tableFlags } from '../cli/flags/output.ts';
import type { DoctorReport } from '../engine/monitoring/doctor.ts';
import { defaultsLine, reportLines } from '../ui/tables/doctor.ts';

export default class Doctor extends BaseCommand {
  static override summary = 'Check everything the cluster needs, and suggest a fix for each fault';
  static override description = 'Shows faults first, and every setting with its source. Exits 1 on a fault.';
  static override flags = tableFlags;
  static override examples = ['<%= config.bin %> doctor', '<%= config.bin %> doctor --json'];

  async run(): Promise<DoctorReport> {
    const { flags } = await this.parse(Doctor);
    const { diagnose } = await import('../engine/monitoring/doctor.ts');
    const report = await diagnose(await this.loadConfig(flags));
    this.log(reportLines(report).join('\n'));
    const given = report.settings.filter(({ source }) => source !== 'default');
    await this.table(
      ['setting', 'value', 'from'],
      given.map((s) => [s.name, s.value, s.source]),
    );
    const defaults = report.settings.filter(({ source }) => source === 'default');
    this.log(defaultsLine(defaults));
    if (!report.ok) process.exitCode = 1;
    return report;
  }
}
