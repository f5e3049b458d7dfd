/** How Services stand in the maps of bpf/service-maps.h. */
import ipaddr from 'ipaddr.js';
import { type Family, parseIp } from '#api/cidr.ts';
import type { IpText } from '../../messages.ts';
import { Backend4, Backend6, flowConstants, FrontendKey4, FrontendKey6 } from '../bpf-types.gen.ts';
import { writeAddress } from '../keys.ts';

/** Where a service is reached. */
export interface ServiceAddress {
  readonly address: IpText;
  readonly port: number;
  /** TCP 6, UDP 17 or SCTP 132. */
  readonly protocol: number;
}

/** One who answers. */
export interface BackendAddress {
  readonly address: IpText;
  readonly port: number;
}

/** What a frontend's element says: `count` backends from number `first` on. */
export interface RunReference {
  readonly first: number;
  readonly count: number;
}

const keyCodecs = { 4: FrontendKey4, 6: FrontendKey6 } as const;
const backendCodecs = { 4: Backend4, 6: Backend6 } as const;

/** The key of a frontend; throws `AddressError` for text that is no address. */
export function frontendKey({ address, port, protocol }: ServiceAddress): Uint8Array {
  const ip = parseIp(address);
  const bytes = new Uint8Array(ip.family === 4 ? 4 : 16);
  writeAddress(new DataView(bytes.buffer), 0, ip.family, ip.value);
  return keyCodecs[ip.family].encode({ address: bytes, port, protocol });
}

/** A frontend's value: first << 32 | flags << 24 | count. No flag has a meaning yet. */
export function frontendValue({ first, count }: RunReference): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint32(0, count, true);
  view.setUint32(4, first, true);
  return new Uint8Array(view.buffer);
}

/** What a frontend's value refers to. */
export function readFrontendValue(value: Uint8Array): RunReference {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  return { first: view.getUint32(4, true), count: view.getUint32(0, true) & flowConstants.frontendCountMask };
}

/** Backends as the array has them, `stride` bytes apart; throws `AddressError` for text that is no address, a `RangeError` for the other family's. */
export function backendBytes(family: Family, backends: readonly BackendAddress[], stride: number): Uint8Array {
  const bytes = new Uint8Array(backends.length * stride);
  const view = new DataView(bytes.buffer);
  // Without an object for each: a service may have thousands, and all are written when one of them changes.
  const { offsets } = backendCodecs[family];
  for (const [index, { address, port }] of backends.entries()) {
    const ip = parseIp(address);
    if (ip.family !== family) throw new RangeError(`${address} is no IPv${family} address`);
    writeAddress(view, index * stride + offsets.address, family, ip.value);
    view.setUint16(index * stride + offsets.port, port, true);
  }
  return bytes;
}

/** The backend that stands in an element of the array. */
export function readBackend(family: Family, value: Uint8Array): BackendAddress {
  const { address, port } = backendCodecs[family].read(new DataView(value.buffer, value.byteOffset, value.byteLength));
  return { address: ipaddr.fromByteArray([...address]).toString(), port };
}
