// A client of protocol v2 (docs/protocol-v2.md), suite X25519, with what Node.js 20 brings and nothing else.
//
//   node client.mjs https://api.example.org TOKEN "NODE'S PUBLIC KEY IN BASE64" MODEL "How are you?"
//
// The public key is pinned: whoever stands between can read nothing, and can put no other node in its place.
import { pathToFileURL } from "node:url";
const { subtle } = globalThis.crypto;
const SUITE_ID = 1, MAX_EVENT = 2 << 20, MAX_ANSWER = 64 << 20; // bytes
const USAGE = ["prompt_tokens", "completion_tokens", "total_tokens"];
const STATUSES = new Set(Array.from({ length: 200 }, (_, at) => 400 + at)); // of aborts

const bytes = (text) => new TextEncoder().encode(text);
const text = (raw) => new TextDecoder("utf-8", { fatal: true }).decode(raw);
const concat = (...parts) => new Uint8Array(Buffer.concat(parts.map((part) => Uint8Array.from(part))));
const number = (value, size) => Buffer.from(BigInt(value).toString(16).padStart(2 * size, "0"), "hex"); // big-endian
const base64 = (raw) => Buffer.from(raw).toString("base64");
function unbase64(text) { // padded, nothing else in it, spare bits zero
  const raw = Buffer.from(typeof text === "string" ? text : "", "base64");
  if (raw.toString("base64") !== text) throw new Error("the reply is malformed: base64");
  return new Uint8Array(raw);
}
function isCount(value) { return Number.isSafeInteger(value) && value >= 0 && !Object.is(value, -0); }

// ---- HKDF (RFC 5869) and HPKE's base mode (RFC 9180): one block is enough for all that is expanded here
async function hmac(key, ...parts) {
  const handle = await subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await subtle.sign("HMAC", handle, concat(...parts)));
}
const KEM = bytes("KEM\x00\x20"), HPKE = bytes("HPKE\x00\x20\x00\x01\x00\x02"), NO_SALT = new Uint8Array(32);
async function expand(prk, info, length) { return (await hmac(prk, info, [1])).slice(0, length); }
const labeledExtract = (suite, label, ikm, salt = NO_SALT) => hmac(salt, bytes("HPKE-v1"), suite, bytes(label), ikm);
const labeledExpand = (suite, prk, label, info, length) =>
  expand(prk, concat(number(length, 2), bytes("HPKE-v1"), suite, bytes(label), info), length);
const aesKey = (raw) => subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt", "decrypt"]);

export async function setupSender(publicKey, info, pair) {
  pair ??= await subtle.generateKey("X25519", false, ["deriveBits"]);
  const enc = new Uint8Array(await subtle.exportKey("raw", pair.publicKey));
  const peer = await subtle.importKey("raw", publicKey, "X25519", false, []);
  const dh = new Uint8Array(await subtle.deriveBits({ name: "X25519", public: peer }, pair.privateKey, 256));
  if (dh.every((byte) => byte === 0)) throw new Error("the node's public key is of low order");
  const eaePrk = await labeledExtract(KEM, "eae_prk", dh);
  const shared = await labeledExpand(KEM, eaePrk, "shared_secret", concat(enc, publicKey), 32);
  const pskIdHash = await labeledExtract(HPKE, "psk_id_hash", []);
  const context = concat([0], pskIdHash, await labeledExtract(HPKE, "info_hash", info));
  const secret = await labeledExtract(HPKE, "secret", [], shared);
  const key = await aesKey(await labeledExpand(HPKE, secret, "key", context, 32));
  const iv = await labeledExpand(HPKE, secret, "base_nonce", context, 12);
  const exporter = await labeledExpand(HPKE, secret, "exp", context, 32);
  return {
    enc,
    seal: async (additionalData, body) =>
      new Uint8Array(await subtle.encrypt({ name: "AES-GCM", iv, additionalData }, key, body)),
    exported: await labeledExpand(HPKE, exporter, "sec", bytes("atoma/2 response"), 32),
  };
}

// ---- the request (section 3)

export async function keyIdOf(publicKey) {
  return new Uint8Array(await subtle.digest("SHA-256", concat([SUITE_ID], publicKey))).slice(0, 8);
}
export function infoOf(keyId) { return concat(bytes("atoma/2 request\x00"), keyId); }
export function aadOf(m) {
  const count = (value) => (value === null ? [] : number(value, 8));
  const parts = [bytes(m.endpoint), bytes(m.model_name), count(m.stack_small_id), count(m.num_compute_units)];
  parts.push([m.stream ? 1 : 0], number(m.sent_at, 8));
  return concat(...parts.flatMap((part) => [number(part.length, 4), part]));
}
export function asciiJSON(members) { // compact, members in order of code points
  const json = JSON.stringify(Object.fromEntries(Object.entries(members).sort(([a], [b]) => (a < b ? -1 : 1))));
  return json.replace(/[\u007f-\uffff]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}
export async function sealRequest(publicKey, metadata, body, pair) {
  const keyId = await keyIdOf(publicKey);
  const { enc, seal, exported } = await setupSender(publicKey, infoOf(keyId), pair);
  const ciphertext = base64(await seal(aadOf(metadata), body));
  const envelope = asciiJSON({ ...metadata, v: 2, key_id: base64(keyId), enc: base64(enc), ciphertext });
  return { envelope, enc, exported };
}

// ---- the reply (section 4)

export class Opener { // the records of one reply, in order
  constructor(exported, enc) { Object.assign(this, { exported, enc, index: 0, ended: false }); }

  async open(json, flags) {
    if (this.ended) throw new Error("there is something after the end of the reply");
    const event = JSON.parse(json);
    const { flag = 0, usage = null } = event;
    if (this.index === 0) {
      const salt = unbase64(event.salt);
      if (event.v !== 2 || salt.length !== 32) throw new Error("the reply is not one of protocol v2");
      const prk = await hmac(concat(this.enc, salt), this.exported);
      this.key = await aesKey(await expand(prk, bytes("key"), 32));
      this.base = await expand(prk, bytes("nonce"), 12);
    } else if ("salt" in event || "v" in event) throw new Error("the reply begins a second time");
    if (!flags.includes(flag)) throw new Error("the reply is malformed: flag");
    if (usage !== null && (Object.keys(usage).length !== 3 || !USAGE.every((name) => isCount(usage[name]))))
      throw new Error("the reply is malformed: usage");
    const iv = Buffer.from(this.base);
    iv.writeUInt32BE((iv.readUInt32BE(8) ^ this.index) >>> 0, 8);
    const additionalData = concat([flag], ...(usage === null ? [] : USAGE.map((name) => number(usage[name], 8))));
    const sealed = unbase64(event.ciphertext);
    const plaintext = await subtle.decrypt({ name: "AES-GCM", iv, additionalData }, this.key, sealed).catch(() => {
      throw new Error("the reply could not be authenticated");
    });
    if (flag === 0 && plaintext.byteLength === 0) throw new Error("the reply is malformed: an empty chunk");
    this.index += 1;
    this.ended = flag !== 0;
    return { flag, usage, plaintext };
  }
}

export async function* eventsOf(pieces) { // the data of each event, as WHATWG says; what has no blank line is none
  const decoder = new TextDecoder("utf-8", { fatal: true }); // it takes the byte order mark away
  let rest = "", data = [], held = 0;
  const found = function* (end) {
    for (let m; (m = end.exec(rest)); rest = rest.slice(m.index + m[0].length)) {
      const line = rest.slice(0, m.index);
      const field = /^data(?:$|: ?(.*))/s.exec(line);
      if (field) data.push(field[1] ?? "");
      held += line.length;
      if (line !== "") continue;
      if (data.length > 0) yield data.join("\n");
      data = [], held = 0;
    }
  };
  for await (const piece of pieces) {
    rest += decoder.decode(piece, { stream: true });
    yield* found(/\r\n|\n|\r(?!$)/); // a CR at the end may have its LF in the next piece
    if (held + rest.length > MAX_EVENT) throw new Error("the reply has too long an event");
  }
  yield* found(/\r$/);
}
async function* objectOf(pieces) {
  const parts = []; let length = 0;
  for await (const piece of pieces)
    if (parts.push(piece) && (length += piece.length) > MAX_ANSWER) throw new Error("the reply is too long");
  yield text(concat(...parts));
}

// The verified records of a reply. It ends after the last one alone: an abort, a cut and a forgery are errors.
export async function* openReply(exported, enc, stream, pieces, isEvents) {
  const opener = new Opener(exported, enc);
  const flags = isEvents ? (stream ? [0, 1, 2] : []) : stream ? [2] : [2, 3];
  for await (const event of isEvents ? eventsOf(pieces) : objectOf(pieces)) {
    const record = await opener.open(event, flags);
    if (record.flag !== 2) { yield record; continue; }
    const { code, message, status } = JSON.parse(text(record.plaintext)).error;
    if (!/^[A-Z0-9_]{1,64}$/.test(code) || typeof message !== "string" || !STATUSES.has(status))
      throw new Error("the reply is malformed: an abort");
    throw Object.assign(new Error(`the node has aborted: ${code} (${status}): ${message}`), { record, code, status });
  }
  if (!opener.ended) throw new Error("the reply is truncated: its end is missing");
}

// ---- HTTP

async function* whole(body) {
  try { yield* body; } catch { throw new Error("the reply is truncated: the connection broke"); }
}
const post = (url, token, body) => {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  return fetch(url, { method: "POST", headers, body, redirect: "error" });
};
export async function* chat(base, token, pinned, model, prompt) {
  const publicKey = unbase64(pinned), endpoint = "/v1/chat/completions";
  const lock = await post(`${base}/v1/nodes/lock`, token, JSON.stringify({ model }));
  if (!lock.ok) throw new Error(`no node: HTTP ${lock.status}, which anyone between could have said`);
  const { keys = [], stack_small_id = null } = await lock.json();
  const sent_at = Math.floor(Date.now() / 1000);
  if (!keys.some((key) => key.suite === "X25519" && key.public_key === pinned && sent_at <= key.not_after))
    throw new Error("the pinned key is not offered, or no longer good");
  const metadata = { endpoint, model_name: model, stack_small_id, num_compute_units: null, stream: true, sent_at };
  const body = bytes(JSON.stringify({ model, messages: [{ role: "user", content: prompt }], stream: true }));
  const { envelope, enc, exported } = await sealRequest(publicKey, metadata, body);
  const reply = await post(`${base}/v1/confidential/chat/completions`, token, envelope);
  const isEvents = (reply.headers.get("content-type") ?? "").startsWith("text/event-stream");
  if (reply.ok || isEvents) return yield* openReply(exported, enc, true, whole(reply.body), isEvents);
  const said = await reply.text(); // sealed by the node, or anybody's
  if (!said.includes('"ciphertext"')) throw new Error(`HTTP ${reply.status}, said in clear: ${said.slice(0, 200)}`);
  yield* openReply(exported, enc, true, [bytes(said)], false);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [base, token, pinned, model, prompt] = process.argv.slice(2);
  try {
    if (prompt === undefined) throw new Error("usage: node client.mjs URL TOKEN PUBLIC_KEY MODEL PROMPT");
    for await (const { plaintext } of chat(base.replace(/\/$/, ""), token, pinned, model, prompt)) {
      if (plaintext.byteLength === 0) continue;
      const { choices } = JSON.parse(text(plaintext));
      process.stdout.write(choices[0]?.delta?.content ?? "");
    }
    process.stdout.write("\n");
  } catch (error) {
    console.error(`client.mjs: ${error.message}`);
    process.exitCode = 1;
  }
}
