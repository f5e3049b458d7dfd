/** The classifier's writes, made in the kernel's maps: one after the other, so that each is visible before the next. */
import { bitsOf, type Family } from '#api/cidr.ts';
import {
  AddressInfo,
  Chunk,
  classifierConstants,
  type Dimension,
  NamedKey4,
  NamedKey6,
  NetKey4,
  NetKey6,
  RowKey,
  RuleHits,
  UnitRecord,
} from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { AddressValue, ClassifierMaps, MapSizes, MapWrite } from '#dataplanes/ebpf/classifier/classifier-maps.ts';
import { testSizes } from '#dataplanes/ebpf/classifier/twin-for-tests.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { type BpfMap, bpfGrace } from '#native/bpf.ts';
import type { ClassifierBed } from './classifier-bed.ts';

const netKeys = { 4: NetKey4, 6: NetKey6 } as const;
const namedKeys = { 4: NamedKey4, 6: NamedKey6 } as const;

function addressOf(family: Family, address: AddressValue): Uint8Array {
  const bytes = new Uint8Array(bitsOf(family) / 8);
  let left = BigInt(address);
  for (let i = bytes.length - 1; i >= 0; i -= 1, left >>= 8n) bytes[i] = Number(left & 255n);
  return bytes;
}

function put(map: BpfMap, key: Uint8Array, value: Uint8Array | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}

/** Over a bed's maps, which must be as they were made. */
export class KernelMaps implements ClassifierMaps {
  readonly sizes: MapSizes;
  readonly #bed: ClassifierBed;

  constructor(bed: ClassifierBed) {
    this.#bed = bed;
    this.sizes = testSizes(0, {
      ...Object.fromEntries(
        [
          'addr4',
          'addr6',
          'net4',
          'net6',
          'named4',
          'named6',
          'units',
          'records',
          'rows',
          'rowtab',
          'chunks',
          'rules',
        ].map((name) => [`tortie_${name}`, bed.map(`tortie_${name}`).shape.maxEntries]),
      ),
      tortie_ports: 65_536,
    });
    bed.array('tortie_chunks').value(classifierConstants.chunkFull).fill(0xff);
  }

  async write(writes: readonly MapWrite[]): Promise<void> {
    await Promise.resolve();
    for (const write of writes) this.#write(write);
  }

  async grace(): Promise<void> {
    await bpfGrace();
  }

  #write(write: MapWrite): void {
    switch (write.map) {
      case 'addresses': {
        const { family, prefix, value } = write;
        const address = addressOf(family, write.address);
        const info = value === undefined ? undefined : AddressInfo.encode(value);
        if (prefix === bitsOf(family)) put(this.#bed.map(`tortie_addr${family}`), address, info);
        else put(this.#bed.map(`tortie_net${family}`), netKeys[family].encode({ prefixLen: prefix, address }), info);
        return;
      }
      case 'named': {
        const { family, address, port, protocol } = write;
        const key = namedKeys[family].encode({ address: addressOf(family, address), port, protocol });
        put(this.#bed.map(`tortie_named${family}`), key, write.class === undefined ? undefined : u32Key(write.class));
        return;
      }
      case 'rows': {
        const { record, dimension, row } = write;
        const key = RowKey.encode({ record, dimension: dimension as Dimension, class: write.class });
        put(this.#bed.map('tortie_rows'), key, row === undefined ? undefined : u32Key(row));
        return;
      }
      case 'ports': {
        const { buffer, byteOffset } = this.#bed.array('tortie_ports').value(write.table);
        new Uint16Array(buffer, byteOffset, 65_536).fill(write.class, write.min, write.max + 1);
        return;
      }
      case 'rowtab':
        this.#store('tortie_rowtab', write.index, write.chunks);
        return;
      case 'rules':
        this.#store('tortie_rules', write.index, write.words);
        for (let i = 0; i < write.words.length; i += 1)
          this.#bed
            .array('tortie_hits')
            .value(write.index + i)
            .set(new Uint8Array(RuleHits.size));
        return;
      case 'chunks': {
        const { buffer, byteOffset, byteLength } = write.words;
        if (byteLength !== Chunk.size) throw new RangeError(`a chunk of ${byteLength} bytes`);
        this.#bed
          .array('tortie_chunks')
          .value(write.index)
          .set(new Uint8Array(buffer, byteOffset, byteLength));
        return;
      }
      case 'records':
        this.#bed.array('tortie_records').value(write.index).set(UnitRecord.encode(write.record));
        return;
      case 'units':
        this.#store('tortie_units', write.index, [write.record]);
        return;
      default:
        throw new TypeError(`a write to ${String(write satisfies never)}`);
    }
  }

  #store(name: 'tortie_rowtab' | 'tortie_rules' | 'tortie_units', first: number, words: Iterable<number>): void {
    const array = this.#bed.array(name);
    let index = first;
    for (const word of words) array.store32(index++, 0, word);
  }
}
