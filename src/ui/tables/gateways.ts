import { renderList } from '../columns/column.ts';
import { GATEWAY_COLUMNS, type GatewayRow } from '../columns/gateways.ts';
import type { TableOptions } from '../terminal/table.ts';

export const gatewaysTable = (gateways: readonly GatewayRow[], options: TableOptions): string =>
  renderList(GATEWAY_COLUMNS, gateways, options);
