import { splitUrls } from '../util/urlList.ts';

/**
 * Returns one URL, or several separated by commas, without passwords. Passwords with characters
 * that should have been percent-encoded are removed too.
 */
export function withoutPassword(urls: string): string {
  return splitUrls(urls)
    .map((url) =>
      url.replace(/(:\/\/[^:/@]*):.*@/, '$1:***@').replace(/([?&](?:sentinel_)?password=)[^&]*/g, '$1***'),
    )
    .join(',');
}

/**
 * Returns the URL in the form that the driver takes. The driver treats `prefer`, `require` and
 * `verify-ca` as `verify-full` and prints a warning: its next version will follow libpq and no
 * longer verify the server. Naming `verify-full` keeps the verification and avoids the warning.
 */
export const driverUrl = (url: string): string =>
  /[?&]uselibpqcompat=/.test(url)
    ? url
    : url.replace(/([?&]sslmode=)(prefer|require|verify-ca)(?=&|$)/, '$1verify-full');
