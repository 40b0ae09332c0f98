/**
 * Splits URLs that are separated by commas. A comma inside of a URL, in a password or between the hosts of
 * one database, is followed by no scheme and splits nothing.
 */
export const splitUrls = (urls: string): string[] => urls.split(/,(?=\s*[a-z+]+:\/\/)/i);
