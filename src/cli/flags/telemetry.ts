import { Flags } from '@oclif/core';

/** What every role lets one say about logs and figures. Traces have the standard's own variables: docs/guides/telemetry.md. */
export const telemetryFlags = {
  'log-level': Flags.string({
    description:
      'trace, debug, info, warn, error, fatal or silent; `debug` has a line for each step of a post',
    env: 'FEEDCTL_LOG_LEVEL',
  }),
  'statsd-url': Flags.string({
    description: 'send the figures of /metrics there every ten seconds, e.g. statsd://localhost:8125',
    env: 'FEEDCTL_STATSD_URL',
  }),
};
