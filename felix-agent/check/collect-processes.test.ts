import { expect, test } from '@jest/globals';
import { parseListening } from './collect-processes.ts';

test("listening sockets are read from the kernel's table, with addresses as people write them", () => {
  const head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';
  const rest = '00000000:00000000 00:00000000 00000000     0        0';
  const line = (local: string, state: string, inode: number): string =>
    `   0: ${local} 00000000:0000 ${state} ${rest} ${inode} 1 0000000000000000 100 0 0 10 0`;
  const table = [
    head,
    line('0100007F:238B', '0A', 11),
    line('00000000:2383', '0A', 12),
    line('0100007F:C001', '01', 13),
    line('00000000000000000000000000000000:238B', '0A', 14),
    line('00000000000000000000000001000000:238B', '0A', 15),
    line('0000000000000000FFFF00000100007F:238B', '0A', 16),
    line('B80D0120000000000000000001000000:0050', '0A', 17),
    '',
  ].join('\n');
  expect(parseListening(table)).toEqual([
    { address: '127.0.0.1', port: 9099, inode: '11' },
    { address: '0.0.0.0', port: 9091, inode: '12' },
    { address: '::', port: 9099, inode: '14' },
    { address: '::1', port: 9099, inode: '15' },
    { address: '127.0.0.1', port: 9099, inode: '16' },
    { address: '2001:db8::1', port: 80, inode: '17' },
  ]);
  expect(parseListening('')).toEqual([]);
});
