import type { IdentityReport } from '../../engine/cluster/identify.ts';
import { renderTable, type TableOptions } from '../terminal/table.ts';

const placeText = (place: string | null | undefined): string =>
  place === undefined ? 'not known: no role has run yet' : (place ?? 'none');

/** Renders who a cluster is, and the histories of its database. */
export function identityText(report: IdentityReport, options: TableOptions): string {
  const { cluster, lineage, broker, cache, production, copied, lineages } = report;
  if (cluster === null) return 'No process has opened this database yet, so it has no identity.';
  const rows = lineages.map((one) => [
    one.lineage,
    one.openedAt.toISOString(),
    one.reason,
    one.lineage === lineage ? 'now' : '',
  ]);
  return [
    `cluster     ${cluster}`,
    `lineage     ${lineage}`,
    `broker      ${placeText(broker)}`,
    `cache       ${placeText(cache)}`,
    `production  ${production ? 'yes' : 'no'}`,
    ...(copied ? ['This database is a copy: the database of the cluster is on another server.'] : []),
    '',
    renderTable(['LINEAGE', 'SINCE', 'REASON', ''], rows, options),
  ].join('\n');
}
