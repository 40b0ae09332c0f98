import { FeedctlError } from './errors.ts';

export const MAX_POST_CHARACTERS = 5000;

export interface Post {
  readonly id: number;
  readonly authorId: number;
  readonly body: string;
  readonly createdAt: Date;
  readonly version: number;
}

/** A post with its deletion mark. */
export interface StoredPost extends Post {
  readonly deleted: boolean;
}

/** Characters are Unicode code points. Throws POST_EMPTY, POST_TOO_LONG or TEXT_INVALID. */
export function checkPostText(text: string): void {
  if (text.trim() === '') throw new FeedctlError('POST_EMPTY', 'the post has no text');
  checkText(text, 'post');
  const characters = text.length <= MAX_POST_CHARACTERS ? text.length : [...text].length;
  if (characters > MAX_POST_CHARACTERS) {
    throw new FeedctlError(
      'POST_TOO_LONG',
      `the post has ${characters} characters, the limit is ${MAX_POST_CHARACTERS}`,
    );
  }
}

/** Checks that the database can store a text unchanged. Throws TEXT_INVALID. */
export function checkText(text: string, what: string): void {
  if (text.includes('\0')) throw new FeedctlError('TEXT_INVALID', `the ${what} contains a NUL character`);
  if (!text.isWellFormed()) throw new FeedctlError('TEXT_INVALID', `the ${what} is not well-formed Unicode`);
}
