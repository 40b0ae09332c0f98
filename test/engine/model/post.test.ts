import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkPostText, MAX_POST_CHARACTERS } from '../../../src/engine/model/post.ts';
import { codeOf } from '../../support/codes.ts';

const check = (text: string) => codeOf(() => checkPostText(text));

test.each(['', ' ', '\n\t\r ', '\u00a0\u2003\ufeff'])('%j is empty', (text) => {
  expect(check(text)).toBe('POST_EMPTY');
});

test.each(['a', '😀', 'é', '👩‍👩‍👧'])('a text of %s may have 5,000 code points and no more', (character) => {
  const points = [...character].length;
  const most = Math.floor(MAX_POST_CHARACTERS / points);
  expect(check(character.repeat(most))).toBeUndefined();
  expect(check(character.repeat(most + 1))).toBe('POST_TOO_LONG');
});

test('emoji and letters count alike', () => {
  expect(check(`a${'😀'.repeat(4_999)}`)).toBeUndefined();
  expect(check(`aa${'😀'.repeat(4_999)}`)).toBe('POST_TOO_LONG');
});

test('NUL and lone surrogates are no text', () => {
  expect(check('a\0b')).toBe('TEXT_INVALID');
  expect(check('a\ud800')).toBe('TEXT_INVALID');
  expect(check('\udc00b')).toBe('TEXT_INVALID');
});

test('any other text within the limit is taken', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 300 }), (text) => {
      fc.pre(text.trim() !== '' && !text.includes('\0'));
      expect(check(text)).toBeUndefined();
    }),
  );
});
