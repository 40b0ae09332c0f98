import { Flags } from '@oclif/core';
import type { GatewayOptions } from '../../engine/gateway/gateway.ts';
import { REQUEST_LIMITS, SOCKETS } from '../../engine/resilience/limits.ts';
import { portFlag } from './common.ts';
import { durationFlag } from './durations.ts';

const perMinute = (description: string, env: string, value: number) =>
  Flags.integer({
    description: `maximum requests a minute ${description}; 0: no limit`,
    env,
    default: value,
    min: 0,
  });

/** Flags of `gateway start` and `up` for the gateway. */
export const gatewayFlags = {
  port: portFlag,
  host: Flags.string({ description: 'address that the gateway listens on', default: '127.0.0.1' }),
  origin: Flags.string({
    description:
      'origin of web pages that may connect, such as https://app.example; default: any; may be repeated.' +
      '\n\nPages of these origins may also use the JSON API, from which browsers otherwise keep them.',
    env: 'FEEDCTL_ORIGIN',
    multiple: true,
    delimiter: ',',
  }),
  'sockets-per-user': Flags.integer({
    description: 'maximum open sockets of a user; 0: no limit',
    env: 'FEEDCTL_SOCKETS_PER_USER',
    default: SOCKETS.perUser,
    min: 0,
  }),
  'sockets-per-ip': Flags.integer({
    description: 'maximum open sockets of an IP address; 0: no limit',
    env: 'FEEDCTL_SOCKETS_PER_IP',
    default: SOCKETS.perIp,
    min: 0,
  }),
  'ping-interval': durationFlag({
    unit: 's',
    description: 'time between two pings of a WebSocket, less than proxies allow a silent connection',
    env: 'FEEDCTL_PING_INTERVAL',
    default: SOCKETS.pingSeconds,
    min: 1,
    max: 3_600,
  }),
  'user-limit': perMinute('of a user', 'FEEDCTL_USER_LIMIT', REQUEST_LIMITS.user),
  'user-write-limit': perMinute(
    'of a user for posts and follows',
    'FEEDCTL_USER_WRITE_LIMIT',
    REQUEST_LIMITS.userWrites,
  ),
  'ip-limit': perMinute('of an IP address', 'FEEDCTL_IP_LIMIT', REQUEST_LIMITS.ip),
  'ip-unauthenticated-limit': perMinute(
    'of an IP address without a valid token',
    'FEEDCTL_IP_UNAUTHENTICATED_LIMIT',
    REQUEST_LIMITS.ipUnauthenticated,
  ),
  'limit-burst': Flags.integer({
    description: 'percentage by which request limits may be exceeded once in ten minutes',
    env: 'FEEDCTL_LIMIT_BURST',
    default: REQUEST_LIMITS.burstPercent,
    min: 0,
    max: 1_000,
  }),
  'failed-login-limit': Flags.integer({
    description: 'maximum wrong passwords of an account in ten minutes; 0: no limit',
    env: 'FEEDCTL_FAILED_LOGIN_LIMIT',
    default: REQUEST_LIMITS.failedLogins,
    min: 0,
  }),
  'trusted-proxy': Flags.string({
    description: 'address or network of a proxy whose X-Forwarded-For is trusted; may be repeated',
    env: 'FEEDCTL_TRUSTED_PROXY',
    multiple: true,
    delimiter: ',',
  }),
};

/** Flag of `gateway start` alone: every process of the cluster of `up` runs on its machine. */
export const advertiseUrlFlag = Flags.string({
  description:
    'URL under which other processes reach this gateway, such as http://10.0.0.7:8080.' +
    '\n\nDefault: the address of --host; if that is 0.0.0.0 or ::, the first address of this machine.',
  env: 'FEEDCTL_ADVERTISE_URL',
});

/** Returns the options of the gateway that these flags stand for. */
export const gatewayOptions = (flags: {
  host: string;
  port: number;
  origin?: string[] | undefined;
  'sockets-per-user': number;
  'sockets-per-ip': number;
  'ping-interval': number;
  'user-limit': number;
  'user-write-limit': number;
  'ip-limit': number;
  'ip-unauthenticated-limit': number;
  'limit-burst': number;
  'failed-login-limit': number;
  'trusted-proxy'?: string[] | undefined;
}): GatewayOptions => ({
  host: flags.host,
  port: flags.port,
  limits: {
    user: flags['user-limit'],
    userWrites: flags['user-write-limit'],
    ip: flags['ip-limit'],
    ipUnauthenticated: flags['ip-unauthenticated-limit'],
    burstPercent: flags['limit-burst'],
    failedLogins: flags['failed-login-limit'],
  },
  trustedProxies: flags['trusted-proxy'],
  sockets: {
    origins: flags.origin,
    heartbeatMs: flags['ping-interval'] * 1_000,
    limits: { perUser: flags['sockets-per-user'], perIp: flags['sockets-per-ip'] },
  },
});
