import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decodeRequest, encodeAnswer, encodeRequest, MAX_REQUEST_BYTES, PROTOCOL_LINE } from './protocol.ts';

const encode = (env: Readonly<Record<string, string>>, stdin: string) => encodeRequest({ env, stdin });

describe('decodeRequest', () => {
  test('reads variables, their equal signs and the standard input', () => {
    const bytes = encode({ CNI_COMMAND: 'ADD', CNI_ARGS: 'A=1;B=2', CNI_PATH: '' }, '{"name":"nét"}');
    expect(decodeRequest(bytes)).toEqual({
      env: { CNI_COMMAND: 'ADD', CNI_ARGS: 'A=1;B=2', CNI_PATH: '' },
      stdin: '{"name":"nét"}',
    });
  });

  test('reads any environment and any input back', () => {
    const name = fc.string({ minLength: 1, unit: 'grapheme-ascii' }).filter((text) => !/[=\0]/.test(text));
    const value = fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0'));
    fc.assert(
      fc.property(
        fc.dictionary(name, value, { noNullPrototype: true }),
        fc.string({ unit: 'grapheme' }),
        (env, stdin) => {
          const request = decodeRequest(encode(env, stdin));
          expect(Object.entries(request.env)).toEqual(Object.entries(env));
          expect(request.stdin).toBe(stdin);
        },
      ),
    );
  });

  test.each([
    ['another first line', Buffer.from('tortie-cni 2\n\0{}'), /not of one version/],
    ['nothing', Buffer.alloc(0), /not of one version/],
    [
      'an environment that never ends',
      Buffer.from(`${PROTOCOL_LINE}CNI_COMMAND=ADD\0CNI_`),
      /ends inside its environment/,
    ],
    ['a variable without an equal sign', Buffer.from(`${PROTOCOL_LINE}CNI_COMMAND\0\0`), /not NAME=VALUE/],
    ['too much', Buffer.alloc(MAX_REQUEST_BYTES + 1), /over \d+ bytes/],
  ])('refuses %s', (_what, bytes, message) => {
    expect(() => decodeRequest(bytes)).toThrow(
      expect.objectContaining({ code: 'bad-request', message: expect.stringMatching(message) }),
    );
  });
});

test('encodeAnswer writes the exit status and the output', () => {
  expect(encodeAnswer({ exitCode: 1, stdout: '{"code":7}' }).toString()).toBe('1{"code":7}');
  expect(encodeAnswer({ exitCode: 0, stdout: '' }).toString()).toBe('0');
});
