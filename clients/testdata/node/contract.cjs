// The contract of contract_test.go with the Node SDK. It takes a way to reach the
// server as JSON in the environment, and ends with 0 if all of it holds.
const assert = require('node:assert/strict');
const http = require('node:http');
const OSS = require('ali-oss');

const way = JSON.parse(process.env.WAY);
// Names are resolved to the emulator, as a name server would.
const here = (host, options, done) => (options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4));

function client(change) {
  return new OSS({
    endpoint: way.endpoint, region: 'oss-' + way.region, bucket: way.bucket,
    accessKeyId: way.id, accessKeySecret: way.secret, stsToken: way.token || undefined,
    cname: way.cname, authorizationV4: !way.v1, agent: new http.Agent({ lookup: here }), ...change,
  });
}

async function refused(promise) {
  try {
    await promise;
  } catch (e) {
    return e;
  }
  throw new Error('was not refused');
}

async function main() {
  const c = client();
  const key = 'log/ä b+node';
  await c.delete(key); // what a run that failed has left
  let r = await c.append(key, Buffer.from('first,'), { position: 0, meta: { stream: 'orders' } });
  assert.equal(r.nextAppendPosition, '6');
  r = await c.append(key, Buffer.from('second'), { position: 6 });
  assert.equal(r.nextAppendPosition, '12');

  let e = await refused(c.append(key, Buffer.from('x'), { position: 3 }));
  assert.equal(e.status, 409);
  assert.equal(e.code, 'PositionNotEqualToLength');
  // This SDK hands out no headers of refusals; head has the position.

  const head = await c.head(key);
  assert.equal(head.res.headers['x-oss-object-type'], 'Appendable');
  assert.equal(head.res.headers['x-oss-next-append-position'], '12');
  assert.equal(head.meta.stream, 'orders');
  assert.equal((await c.get(key)).content.toString(), 'first,second');

  const list = await c.listV2({ prefix: 'log/', 'max-keys': 10 });
  assert.deepEqual(list.objects.map((o) => o.name), [key]);
  assert.deepEqual((await c.list({ prefix: 'log/' })).objects.map((o) => o.size), [12]);

  // This SDK makes no URLs of IP addresses.
  if (!way.endpoint.includes('127.0.0.1')) {
    const url = way.v1 ? c.signatureUrl(key) : await c.signatureUrlV4('GET', 60, undefined, key);
    const body = await new Promise((resolve, reject) => {
      http.get(url, { agent: new http.Agent({ lookup: here }) }, (res) => {
        let text = '';
        res.on('data', (p) => { text += p; });
        res.on('end', () => resolve(res.statusCode + ' ' + text));
      }).on('error', reject);
    });
    assert.equal(body, '200 first,second');
  }

  await c.delete(key);
  e = await refused(c.get(key));
  assert.equal(e.code, 'NoSuchKey');

  e = await refused(client({ accessKeySecret: 'wrong' }).append(key, Buffer.from('x'), { position: 0 }));
  assert.equal(e.status, 403);
  assert.equal(e.code, 'SignatureDoesNotMatch');
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
