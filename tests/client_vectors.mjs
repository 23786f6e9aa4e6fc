// Holds examples/client.mjs against vectors: `node client_vectors.mjs v2.json` prints what differs, and how many fit.
import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";

import { aadOf, eventsOf, infoOf, keyIdOf, openReply, sealRequest, setupSender } from "../examples/client.mjs";

const hex = (text) => new Uint8Array(Buffer.from(text, "hex"));
const toHex = (raw) => Buffer.from(raw).toString("hex");
const latin1 = (text) => new Uint8Array(Buffer.from(text, "latin1"));
const { subtle } = globalThis.crypto;

async function pairOf(secret) {
  const pkcs8 = Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), secret]);
  const jwk = createPublicKey(createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" })).export({ format: "jwk" });
  return {
    privateKey: await subtle.importKey("pkcs8", pkcs8, "X25519", false, ["deriveBits"]),
    publicKey: await subtle.importKey("raw", Buffer.from(jwk.x, "base64url"), "X25519", true, []),
  };
}

// In one piece, and byte by byte.
async function read(exported, enc, stream, received) {
  const isEvents = received[0] !== 0x7b;
  const outcomes = [];
  for (const pieces of [[received], Array.from(received, (_, at) => received.slice(at, at + 1))]) {
    const records = [];
    let said = "ok";
    try {
      for await (const record of openReply(exported, enc, stream, pieces, isEvents)) records.push(record);
    } catch (error) {
      if (error.record) records.push(error.record);
      else said = /truncated/.test(error.message) ? "REPLY_TRUNCATED" : "REPLY_REFUSED";
    }
    outcomes.push({ said, records: records.map(({ flag, usage, plaintext }) => ({ flag, usage, plaintext: toHex(plaintext) })) });
  }
  assert.deepEqual(outcomes[1], outcomes[0]);
  return outcomes[0];
}
const plain = (records) =>
  records.map(({ flag, usage, plaintext }) => ({ flag, usage, plaintext: toHex(latin1(plaintext)) }));

async function whole(v) {
  const publicKey = hex(v.public_key), pair = await pairOf(hex(v.sk_e));
  assert.equal(toHex(await keyIdOf(publicKey)), v.key_id);
  assert.equal(toHex(infoOf(hex(v.key_id))), v.info);
  assert.equal(toHex(aadOf(v.metadata)), v.aad);
  const sender = await setupSender(publicKey, hex(v.info), pair);
  assert.equal(toHex(sender.enc), v.enc);
  assert.equal(toHex(sender.exported), v.exported);
  const { envelope } = await sealRequest(publicKey, v.metadata, latin1(v.body), pair);
  assert.equal(envelope, v.envelope);
  if (v.records.every((record) => record.event !== undefined)) {
    const received = latin1(v.records.map((record) => record.event).join(""));
    const { said, records } = await read(sender.exported, sender.enc, v.metadata.stream, received);
    assert.equal(said, "ok");
    assert.deepEqual(records, plain(v.records));
  }
}

let fit = 0, differ = 0;
for (const v of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  try {
    if (v.received !== undefined) {
      const { said, records } = await read(hex(v.exported), hex(v.enc), v.stream, latin1(v.received));
      assert.equal(said, v.expect);
      assert.deepEqual(records, plain(v.records));
    } else if (v.sk_e) await whole(v);
    else if (v.aad !== undefined) assert.equal(toHex(aadOf(v.metadata)), v.aad);
    else continue; // for a node
    fit += 1;
  } catch (error) {
    differ += 1;
    console.log(`${v.name}: ${error.message}`);
  }
}
console.log(`${fit} fit, ${differ} differ`);
process.exitCode = differ ? 1 : 0;
