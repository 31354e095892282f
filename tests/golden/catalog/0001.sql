BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE artifacts (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	asset TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	role TEXT NOT NULL, 
	variant TEXT NOT NULL, 
	name TEXT NOT NULL, 
	media_type TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	storage_key TEXT NOT NULL, 
	device TEXT NOT NULL, 
	CONSTRAINT fk_artifacts_asset_number FOREIGN KEY(asset, number) REFERENCES versions (asset, number), 
	CONSTRAINT fk_artifacts_storage_key FOREIGN KEY(storage_key) REFERENCES blobs (storage_key), 
	CONSTRAINT uq_artifacts_asset_number_name UNIQUE (asset, number, name)
);
INSERT INTO "artifacts" VALUES(1,1790841600080000,'acme/robots/helmet',1,'model_3d','default','model.glb','model/gltf-binary','8d3490ca4149821fafc78a0362a416a19f1fef1dd4aec106d61457f1ad41ea67',10,'public/acme/run-1/model_3d/model.8d3490ca4149.glb','cpu');
INSERT INTO "artifacts" VALUES(2,1790841600080000,'acme/robots/helmet',1,'model_3d','lod1','lod1.glb','model/gltf-binary','4afb65a175d64fbd0d3d36da1f23acc2c9e0647e1a76cce37d998135137006b8',10,'public/acme/run-1/model_3d/lod1.4afb65a175d6.glb','cpu');
INSERT INTO "artifacts" VALUES(3,1791619200170000,'acme/kitchen/mug',1,'model_3d','default','model.glb','model/gltf-binary','9d0326249552b8ebee36542e19a33a7b0ab069f9dc646a2e9b2ca662318febc0',7,'public/acme/run-2/model_3d/model.9d0326249552.glb','cpu');
INSERT INTO "artifacts" VALUES(4,1791619200170000,'acme/kitchen/mug',1,'model_3d','lod1','lod1.glb','model/gltf-binary','7c28ad88033f8048fd52d8274f3d0d76b8eb7526f2b52aa9d7478b8cb7b5cdf8',7,'public/acme/run-2/model_3d/lod1.7c28ad88033f.glb','cpu');
INSERT INTO "artifacts" VALUES(5,1792396800260000,'acme/robots/helmet',2,'model_3d','default','model.glb','model/gltf-binary','c1f8a64643fe0b3dd542d4f1c25eb543b268db68e857e227ba9dc4dfeb8e6169',10,'public/acme/run-3/model_3d/model.c1f8a64643fe.glb','cpu');
INSERT INTO "artifacts" VALUES(6,1792396800260000,'acme/robots/helmet',2,'model_3d','lod1','lod1.glb','model/gltf-binary','f54f23a1eccb0a5c01835c1d3ac34792b39939cfd58d631ab579c825eae852bc',10,'public/acme/run-3/model_3d/lod1.f54f23a1eccb.glb','cpu');
INSERT INTO "artifacts" VALUES(7,1793174400350000,'zeta/default/boat',1,'model_3d','default','model.glb','model/gltf-binary','f27ddf2f77b899451d41808881ab504371106ea2b49e0ba7c56cad53c47c5664',8,'public/zeta/run-4/model_3d/model.f27ddf2f77b8.glb','cpu');
INSERT INTO "artifacts" VALUES(8,1793174400350000,'zeta/default/boat',1,'model_3d','lod1','lod1.glb','model/gltf-binary','3d496f2172d5899254617aefb2cb6f1feb062eb7ee5624ca9d27a618720e24a0',8,'public/zeta/run-4/model_3d/lod1.3d496f2172d5.glb','cpu');
INSERT INTO "artifacts" VALUES(9,1793952000440000,'acme/robots/helmet',3,'model_3d','default','model.glb','model/gltf-binary','8d3490ca4149821fafc78a0362a416a19f1fef1dd4aec106d61457f1ad41ea67',10,'public/acme/run-1/model_3d/model.8d3490ca4149.glb','cpu');
INSERT INTO "artifacts" VALUES(10,1793952000440000,'acme/robots/helmet',3,'model_3d','lod1','lod1.glb','model/gltf-binary','4afb65a175d64fbd0d3d36da1f23acc2c9e0647e1a76cce37d998135137006b8',10,'public/acme/run-1/model_3d/lod1.4afb65a175d6.glb','cpu');
CREATE TABLE assets (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	asset TEXT NOT NULL, 
	tenant TEXT NOT NULL, 
	project TEXT NOT NULL, 
	name TEXT NOT NULL, 
	next_version BIGINT DEFAULT '1' NOT NULL, 
	CONSTRAINT uq_assets_asset UNIQUE (asset)
);
INSERT INTO "assets" VALUES(1,1790841600080000,'acme/robots/helmet','acme','robots','helmet',4);
INSERT INTO "assets" VALUES(2,1791619200170000,'acme/kitchen/mug','acme','kitchen','mug',2);
INSERT INTO "assets" VALUES(3,1793174400350000,'zeta/default/boat','zeta','default','boat',2);
CREATE TABLE attempts (
	asset TEXT NOT NULL, 
	bake_key TEXT NOT NULL, 
	count BIGINT NOT NULL, 
	last_status TEXT NOT NULL, 
	last_error TEXT NOT NULL, 
	run_id TEXT, 
	first_at BIGINT NOT NULL, 
	last_at BIGINT NOT NULL, 
	CONSTRAINT pk_attempts PRIMARY KEY (asset, bake_key)
);
INSERT INTO "attempts" VALUES('zeta/default/boat','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',3,'timeout','{"code":"CB3001"}','run-failed',1795507200630000,1795507200650000);
CREATE TABLE audit (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	tenant TEXT, 
	who TEXT NOT NULL, 
	action TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	why TEXT NOT NULL, 
	run_id TEXT, 
	detail TEXT
);
INSERT INTO "audit" VALUES(1,1790841600080000,'acme','tester','publish','acme/robots/helmet@1','','run-1','{"bake_key":"1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b","channel":"live"}');
INSERT INTO "audit" VALUES(2,1790841600080000,'acme','tester','move-channel','acme/robots/helmet:live','published by run run-1','run-1','{"from":null,"to":1}');
INSERT INTO "audit" VALUES(3,1791619200170000,'acme','tester','publish','acme/kitchen/mug@1','','run-2','{"bake_key":"ef0fcf9990b76372eda3ad64d513fdeb2bcdd10913eb8302065a99d865a51c44","channel":"live"}');
INSERT INTO "audit" VALUES(4,1791619200170000,'acme','tester','move-channel','acme/kitchen/mug:live','published by run run-2','run-2','{"from":null,"to":1}');
INSERT INTO "audit" VALUES(5,1792396800260000,'acme','tester','publish','acme/robots/helmet@2','','run-3','{"bake_key":"e8e58a02304a5b1fbecc124d334ae187ecb3aed5f3832b2e157b4f1a055a76f2","channel":"live"}');
INSERT INTO "audit" VALUES(6,1792396800260000,'acme','tester','move-channel','acme/robots/helmet:live','published by run run-3','run-3','{"from":1,"to":2}');
INSERT INTO "audit" VALUES(7,1793174400350000,'zeta','tester','publish','zeta/default/boat@1','','run-4','{"bake_key":"5a446b8d5df6d7335550a0ed14410415633998c87ca0a5b43c81be6353a8f8e0","channel":"live"}');
INSERT INTO "audit" VALUES(8,1793174400350000,'zeta','tester','move-channel','zeta/default/boat:live','published by run run-4','run-4','{"from":null,"to":1}');
INSERT INTO "audit" VALUES(9,1793952000440000,'acme','tester','publish','acme/robots/helmet@3','','run-5','{"bake_key":"1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b","channel":"live"}');
INSERT INTO "audit" VALUES(10,1793952000440000,'acme','tester','move-channel','acme/robots/helmet:live','published by run run-5','run-5','{"from":2,"to":3}');
INSERT INTO "audit" VALUES(11,1795507200550000,'acme','ada','move-channel','acme/robots/helmet:live','version 3 looks wrong',NULL,'{"from":3,"to":1}');
INSERT INTO "audit" VALUES(12,1795507200560000,'acme','ada','move-channel','acme/robots/helmet:beta','for the fair',NULL,'{"from":null,"to":3}');
INSERT INTO "audit" VALUES(13,1795507200660000,'zeta','cloudbaker','quarantine','zeta/default/boat','attempt 3 failed','run-failed','{"bake_key":"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","attempts":3,"status":"timeout","error":{"code":"CB3001"}}');
INSERT INTO "audit" VALUES(14,1795766400680000,NULL,'cloudbaker','sweep','store','',NULL,'{"unreferenced":1}');
CREATE TABLE blobs (
	tenant TEXT NOT NULL, 
	zone TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	storage_key TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	refcount BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	lease_until BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_blobs PRIMARY KEY (tenant, zone, sha256), 
	CONSTRAINT ck_blobs_state CHECK (state IN ('uploading', 'live')), 
	CONSTRAINT ck_blobs_refcount CHECK (refcount >= 0), 
	CONSTRAINT uq_blobs_storage_key UNIQUE (storage_key)
);
INSERT INTO "blobs" VALUES('acme','vault','1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b','vault/acme/13/1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b.1e2feb89414c',8,2,'live',1794038400410000,1790841600050000);
INSERT INTO "blobs" VALUES('acme','public','8d3490ca4149821fafc78a0362a416a19f1fef1dd4aec106d61457f1ad41ea67','public/acme/run-1/model_3d/model.8d3490ca4149.glb',10,2,'live',1794038400420000,1790841600060000);
INSERT INTO "blobs" VALUES('acme','public','4afb65a175d64fbd0d3d36da1f23acc2c9e0647e1a76cce37d998135137006b8','public/acme/run-1/model_3d/lod1.4afb65a175d6.glb',10,2,'live',1794038400430000,1790841600070000);
INSERT INTO "blobs" VALUES('acme','vault','ef0fcf9990b76372eda3ad64d513fdeb2bcdd10913eb8302065a99d865a51c44','vault/acme/ef/ef0fcf9990b76372eda3ad64d513fdeb2bcdd10913eb8302065a99d865a51c44.9b810e766ec9',5,1,'live',1794816000500000,1791619200140000);
INSERT INTO "blobs" VALUES('acme','public','9d0326249552b8ebee36542e19a33a7b0ab069f9dc646a2e9b2ca662318febc0','public/acme/run-2/model_3d/model.9d0326249552.glb',7,1,'live',1794816000510000,1791619200150000);
INSERT INTO "blobs" VALUES('acme','public','7c28ad88033f8048fd52d8274f3d0d76b8eb7526f2b52aa9d7478b8cb7b5cdf8','public/acme/run-2/model_3d/lod1.7c28ad88033f.glb',7,1,'live',1794816000520000,1791619200160000);
INSERT INTO "blobs" VALUES('acme','vault','e8e58a02304a5b1fbecc124d334ae187ecb3aed5f3832b2e157b4f1a055a76f2','vault/acme/e8/e8e58a02304a5b1fbecc124d334ae187ecb3aed5f3832b2e157b4f1a055a76f2.05b6e6e307d4',8,1,'live',1792483200230000,1792396800230000);
INSERT INTO "blobs" VALUES('acme','public','c1f8a64643fe0b3dd542d4f1c25eb543b268db68e857e227ba9dc4dfeb8e6169','public/acme/run-3/model_3d/model.c1f8a64643fe.glb',10,1,'live',1792483200240000,1792396800240000);
INSERT INTO "blobs" VALUES('acme','public','f54f23a1eccb0a5c01835c1d3ac34792b39939cfd58d631ab579c825eae852bc','public/acme/run-3/model_3d/lod1.f54f23a1eccb.glb',10,1,'live',1792483200250000,1792396800250000);
INSERT INTO "blobs" VALUES('zeta','vault','5a446b8d5df6d7335550a0ed14410415633998c87ca0a5b43c81be6353a8f8e0','vault/zeta/5a/5a446b8d5df6d7335550a0ed14410415633998c87ca0a5b43c81be6353a8f8e0.c381e88f38c0',6,1,'live',1793260800320000,1793174400320000);
INSERT INTO "blobs" VALUES('zeta','public','f27ddf2f77b899451d41808881ab504371106ea2b49e0ba7c56cad53c47c5664','public/zeta/run-4/model_3d/model.f27ddf2f77b8.glb',8,1,'live',1793260800330000,1793174400330000);
INSERT INTO "blobs" VALUES('zeta','public','3d496f2172d5899254617aefb2cb6f1feb062eb7ee5624ca9d27a618720e24a0','public/zeta/run-4/model_3d/lod1.3d496f2172d5.glb',8,1,'live',1793260800340000,1793174400340000);
INSERT INTO "blobs" VALUES('acme','vault','8404fa238b77fe6a92d3fd64d2626ca05369f5234d899bc062c6c6309dacc480','vault/acme/84/8404fa238b77fe6a92d3fd64d2626ca05369f5234d899bc062c6c6309dacc480.f9341c68966b',23,0,'live',1795852800760000,1795766400760000);
INSERT INTO "blobs" VALUES('zeta','vault','8404fa238b77fe6a92d3fd64d2626ca05369f5234d899bc062c6c6309dacc480','vault/zeta/84/8404fa238b77fe6a92d3fd64d2626ca05369f5234d899bc062c6c6309dacc480.da71144896c8',23,0,'live',1795852800770000,1795766400770000);
INSERT INTO "blobs" VALUES('acme','inbox','a5f628802151fe9e96f6e984ba89ac03d5b6a54411daf2ef2c9871250cdcd367','inbox/acme/a5/a5f628802151fe9e96f6e984ba89ac03d5b6a54411daf2ef2c9871250cdcd367.aa2ca1af6a10',13,0,'live',1795852800780000,1795766400780000);
INSERT INTO "blobs" VALUES('acme','vault','b952180a7ad803487a5e6e616b8e0ef3e0b6354b97c0079aeacc77346f01d537','vault/acme/b9/b952180a7ad803487a5e6e616b8e0ef3e0b6354b97c0079aeacc77346f01d537.bcfbb050acab',25,0,'uploading',1795852800790000,1795766400790000);
CREATE TABLE channels (
	asset TEXT NOT NULL, 
	channel TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	rev BIGINT NOT NULL, 
	moved_at BIGINT NOT NULL, 
	moved_by TEXT NOT NULL, 
	CONSTRAINT pk_channels PRIMARY KEY (asset, channel), 
	CONSTRAINT fk_channels_asset_number FOREIGN KEY(asset, number) REFERENCES versions (asset, number)
);
INSERT INTO "channels" VALUES('acme/robots/helmet','live',1,4,1795507200550000,'ada');
INSERT INTO "channels" VALUES('acme/kitchen/mug','live',1,1,1791619200170000,'tester');
INSERT INTO "channels" VALUES('zeta/default/boat','live',1,1,1793174400350000,'tester');
INSERT INTO "channels" VALUES('acme/robots/helmet','beta',3,1,1795507200560000,'ada');
CREATE TABLE deletions (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	storage_key TEXT NOT NULL, 
	why TEXT NOT NULL, 
	done BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT uq_deletions_storage_key UNIQUE (storage_key)
);
INSERT INTO "deletions" VALUES(1,1795766400680000,'inbox/acme/8a/8a40c88c8ba36a0a01e2b47bf0ba48c2e61bd0bc2d4c1426d9c677e2f01026f5.81f9c1f66c0f','unreferenced',1);
CREATE TABLE findings (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	asset TEXT NOT NULL, 
	number BIGINT, 
	code TEXT NOT NULL, 
	severity TEXT NOT NULL, 
	place TEXT NOT NULL, 
	message TEXT NOT NULL, 
	remedy TEXT NOT NULL
);
INSERT INTO "findings" VALUES(1,1790841600080000,'run-1','acme/robots/helmet',1,'gltf.unused-image','info','/images/0','image 0 is not used','');
INSERT INTO "findings" VALUES(2,1791619200170000,'run-2','acme/kitchen/mug',1,'gltf.unused-image','info','/images/0','image 0 is not used','');
INSERT INTO "findings" VALUES(3,1792396800260000,'run-3','acme/robots/helmet',2,'gltf.unused-image','info','/images/0','image 0 is not used','');
INSERT INTO "findings" VALUES(4,1793174400350000,'run-4','zeta/default/boat',1,'gltf.unused-image','info','/images/0','image 0 is not used','');
INSERT INTO "findings" VALUES(5,1793952000440000,'run-5','acme/robots/helmet',3,'gltf.unused-image','info','/images/0','image 0 is not used','');
INSERT INTO "findings" VALUES(6,1795507200590000,'run-rejected','acme/kitchen/mug',NULL,'glb.truncated','error','','the file ends early','export it again');
CREATE TABLE idempotency (
	tenant TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	request_hash TEXT NOT NULL, 
	result TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_idempotency PRIMARY KEY (tenant, "key")
);
INSERT INTO "idempotency" VALUES('acme','publish:run-1','6d2ad04fb867c0420996b0639673bfee20fcf1115e59ab1924d9744303578eab','{"number":1,"created":true}',1790841600080000);
INSERT INTO "idempotency" VALUES('acme','publish:run-2','c315e8cb1f7e6a4f93fe34ddab8ad61c64bb23893fe49736141092949b195676','{"number":1,"created":true}',1791619200170000);
INSERT INTO "idempotency" VALUES('acme','publish:run-3','288d78a767d23c9fe3b07b00f7fa6f3a523d8dbb4119ae29441429e504ecba7c','{"number":2,"created":true}',1792396800260000);
INSERT INTO "idempotency" VALUES('zeta','publish:run-4','6ed6710822220b9cf877638ce5920847d314968539dbc6b2d7e24138872ba01c','{"number":1,"created":true}',1793174400350000);
INSERT INTO "idempotency" VALUES('acme','publish:run-5','6d2ad04fb867c0420996b0639673bfee20fcf1115e59ab1924d9744303578eab','{"number":3,"created":true}',1793952000440000);
INSERT INTO "idempotency" VALUES('acme','publish:run-6','c315e8cb1f7e6a4f93fe34ddab8ad61c64bb23893fe49736141092949b195676','{"number":1,"created":false}',1794729600530000);
CREATE TABLE losses (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	asset TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	place TEXT NOT NULL, 
	detail TEXT NOT NULL
);
INSERT INTO "losses" VALUES(1,1790841600080000,'run-1','acme/robots/helmet',1,'name','/nodes/3','node 3 was removed with its name ''empty''');
INSERT INTO "losses" VALUES(2,1791619200170000,'run-2','acme/kitchen/mug',1,'name','/nodes/3','node 3 was removed with its name ''empty''');
INSERT INTO "losses" VALUES(3,1792396800260000,'run-3','acme/robots/helmet',2,'name','/nodes/3','node 3 was removed with its name ''empty''');
INSERT INTO "losses" VALUES(4,1793174400350000,'run-4','zeta/default/boat',1,'name','/nodes/3','node 3 was removed with its name ''empty''');
INSERT INTO "losses" VALUES(5,1793952000440000,'run-5','acme/robots/helmet',3,'name','/nodes/3','node 3 was removed with its name ''empty''');
CREATE TABLE metrics (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	asset TEXT NOT NULL, 
	number BIGINT, 
	scope TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE NOT NULL
);
INSERT INTO "metrics" VALUES(1,1790841600040000,'run-1','acme/robots/helmet',NULL,'step','optimize#1','psnr_db',41.0);
INSERT INTO "metrics" VALUES(2,1790841600080000,'run-1','acme/robots/helmet',1,'version','','source_bytes',8.0);
INSERT INTO "metrics" VALUES(3,1790841600080000,'run-1','acme/robots/helmet',1,'version','','triangles',12.0);
INSERT INTO "metrics" VALUES(4,1790841600080000,'run-1','acme/robots/helmet',1,'artifact','model.glb','bytes',10.0);
INSERT INTO "metrics" VALUES(5,1790841600080000,'run-1','acme/robots/helmet',1,'artifact','model.glb','triangles',12.0);
INSERT INTO "metrics" VALUES(6,1790841600080000,'run-1','acme/robots/helmet',1,'artifact','lod1.glb','bytes',10.0);
INSERT INTO "metrics" VALUES(7,1790841600080000,'run-1','acme/robots/helmet',1,'artifact','lod1.glb','triangles',6.0);
INSERT INTO "metrics" VALUES(8,1790841600090000,'run-1','acme/robots/helmet',1,'run','','total_seconds',1.5);
INSERT INTO "metrics" VALUES(9,1791619200130000,'run-2','acme/kitchen/mug',NULL,'step','optimize#1','psnr_db',42.0);
INSERT INTO "metrics" VALUES(10,1791619200170000,'run-2','acme/kitchen/mug',1,'version','','source_bytes',5.0);
INSERT INTO "metrics" VALUES(11,1791619200170000,'run-2','acme/kitchen/mug',1,'version','','triangles',12.0);
INSERT INTO "metrics" VALUES(12,1791619200170000,'run-2','acme/kitchen/mug',1,'artifact','model.glb','bytes',7.0);
INSERT INTO "metrics" VALUES(13,1791619200170000,'run-2','acme/kitchen/mug',1,'artifact','model.glb','triangles',12.0);
INSERT INTO "metrics" VALUES(14,1791619200170000,'run-2','acme/kitchen/mug',1,'artifact','lod1.glb','bytes',7.0);
INSERT INTO "metrics" VALUES(15,1791619200170000,'run-2','acme/kitchen/mug',1,'artifact','lod1.glb','triangles',6.0);
INSERT INTO "metrics" VALUES(16,1791619200180000,'run-2','acme/kitchen/mug',1,'run','','total_seconds',3.0);
INSERT INTO "metrics" VALUES(17,1792396800220000,'run-3','acme/robots/helmet',NULL,'step','optimize#1','psnr_db',43.0);
INSERT INTO "metrics" VALUES(18,1792396800260000,'run-3','acme/robots/helmet',2,'version','','source_bytes',8.0);
INSERT INTO "metrics" VALUES(19,1792396800260000,'run-3','acme/robots/helmet',2,'version','','triangles',12.0);
INSERT INTO "metrics" VALUES(20,1792396800260000,'run-3','acme/robots/helmet',2,'artifact','model.glb','bytes',10.0);
INSERT INTO "metrics" VALUES(21,1792396800260000,'run-3','acme/robots/helmet',2,'artifact','model.glb','triangles',12.0);
INSERT INTO "metrics" VALUES(22,1792396800260000,'run-3','acme/robots/helmet',2,'artifact','lod1.glb','bytes',10.0);
INSERT INTO "metrics" VALUES(23,1792396800260000,'run-3','acme/robots/helmet',2,'artifact','lod1.glb','triangles',6.0);
INSERT INTO "metrics" VALUES(24,1792396800270000,'run-3','acme/robots/helmet',2,'run','','total_seconds',4.5);
INSERT INTO "metrics" VALUES(25,1793174400310000,'run-4','zeta/default/boat',NULL,'step','optimize#1','psnr_db',44.0);
INSERT INTO "metrics" VALUES(26,1793174400350000,'run-4','zeta/default/boat',1,'version','','source_bytes',6.0);
INSERT INTO "metrics" VALUES(27,1793174400350000,'run-4','zeta/default/boat',1,'version','','triangles',12.0);
INSERT INTO "metrics" VALUES(28,1793174400350000,'run-4','zeta/default/boat',1,'artifact','model.glb','bytes',8.0);
INSERT INTO "metrics" VALUES(29,1793174400350000,'run-4','zeta/default/boat',1,'artifact','model.glb','triangles',12.0);
INSERT INTO "metrics" VALUES(30,1793174400350000,'run-4','zeta/default/boat',1,'artifact','lod1.glb','bytes',8.0);
INSERT INTO "metrics" VALUES(31,1793174400350000,'run-4','zeta/default/boat',1,'artifact','lod1.glb','triangles',6.0);
INSERT INTO "metrics" VALUES(32,1793174400360000,'run-4','zeta/default/boat',1,'run','','total_seconds',6.0);
INSERT INTO "metrics" VALUES(33,1793952000400000,'run-5','acme/robots/helmet',NULL,'step','optimize#1','psnr_db',45.0);
INSERT INTO "metrics" VALUES(34,1793952000440000,'run-5','acme/robots/helmet',3,'version','','source_bytes',8.0);
INSERT INTO "metrics" VALUES(35,1793952000440000,'run-5','acme/robots/helmet',3,'version','','triangles',12.0);
INSERT INTO "metrics" VALUES(36,1793952000440000,'run-5','acme/robots/helmet',3,'artifact','model.glb','bytes',10.0);
INSERT INTO "metrics" VALUES(37,1793952000440000,'run-5','acme/robots/helmet',3,'artifact','model.glb','triangles',12.0);
INSERT INTO "metrics" VALUES(38,1793952000440000,'run-5','acme/robots/helmet',3,'artifact','lod1.glb','bytes',10.0);
INSERT INTO "metrics" VALUES(39,1793952000440000,'run-5','acme/robots/helmet',3,'artifact','lod1.glb','triangles',6.0);
INSERT INTO "metrics" VALUES(40,1793952000450000,'run-5','acme/robots/helmet',3,'run','','total_seconds',7.5);
INSERT INTO "metrics" VALUES(41,1794729600490000,'run-6','acme/kitchen/mug',NULL,'step','optimize#1','psnr_db',46.0);
INSERT INTO "metrics" VALUES(42,1794729600540000,'run-6','acme/kitchen/mug',1,'run','','total_seconds',9.0);
CREATE TABLE outbox (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	tenant TEXT NOT NULL, 
	asset TEXT NOT NULL, 
	run_id TEXT, 
	kind TEXT NOT NULL, 
	payload TEXT NOT NULL
);
INSERT INTO "outbox" VALUES(1,1790841600040000,'acme','acme/robots/helmet','run-1','step.completed','{"stage":"optimize","attempt":1,"state":"done"}');
INSERT INTO "outbox" VALUES(2,1790841600080000,'acme','acme/robots/helmet','run-1','asset.indexed','{"version":1,"bake_key":"1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b"}');
INSERT INTO "outbox" VALUES(3,1790841600080000,'acme','acme/robots/helmet','run-1','channel.moved','{"channel":"live","from":null,"to":1}');
INSERT INTO "outbox" VALUES(4,1791619200130000,'acme','acme/kitchen/mug','run-2','step.completed','{"stage":"optimize","attempt":1,"state":"done"}');
INSERT INTO "outbox" VALUES(5,1791619200170000,'acme','acme/kitchen/mug','run-2','asset.indexed','{"version":1,"bake_key":"ef0fcf9990b76372eda3ad64d513fdeb2bcdd10913eb8302065a99d865a51c44"}');
INSERT INTO "outbox" VALUES(6,1791619200170000,'acme','acme/kitchen/mug','run-2','channel.moved','{"channel":"live","from":null,"to":1}');
INSERT INTO "outbox" VALUES(7,1792396800220000,'acme','acme/robots/helmet','run-3','step.completed','{"stage":"optimize","attempt":1,"state":"done"}');
INSERT INTO "outbox" VALUES(8,1792396800260000,'acme','acme/robots/helmet','run-3','asset.indexed','{"version":2,"bake_key":"e8e58a02304a5b1fbecc124d334ae187ecb3aed5f3832b2e157b4f1a055a76f2"}');
INSERT INTO "outbox" VALUES(9,1792396800260000,'acme','acme/robots/helmet','run-3','channel.moved','{"channel":"live","from":1,"to":2}');
INSERT INTO "outbox" VALUES(10,1793174400310000,'zeta','zeta/default/boat','run-4','step.completed','{"stage":"optimize","attempt":1,"state":"done"}');
INSERT INTO "outbox" VALUES(11,1793174400350000,'zeta','zeta/default/boat','run-4','asset.indexed','{"version":1,"bake_key":"5a446b8d5df6d7335550a0ed14410415633998c87ca0a5b43c81be6353a8f8e0"}');
INSERT INTO "outbox" VALUES(12,1793174400350000,'zeta','zeta/default/boat','run-4','channel.moved','{"channel":"live","from":null,"to":1}');
INSERT INTO "outbox" VALUES(13,1793952000400000,'acme','acme/robots/helmet','run-5','step.completed','{"stage":"optimize","attempt":1,"state":"done"}');
INSERT INTO "outbox" VALUES(14,1793952000440000,'acme','acme/robots/helmet','run-5','asset.indexed','{"version":3,"bake_key":"1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b"}');
INSERT INTO "outbox" VALUES(15,1793952000440000,'acme','acme/robots/helmet','run-5','channel.moved','{"channel":"live","from":2,"to":3}');
INSERT INTO "outbox" VALUES(16,1794729600490000,'acme','acme/kitchen/mug','run-6','step.completed','{"stage":"optimize","attempt":1,"state":"done"}');
INSERT INTO "outbox" VALUES(17,1795507200550000,'acme','acme/robots/helmet',NULL,'channel.moved','{"channel":"live","from":3,"to":1}');
INSERT INTO "outbox" VALUES(18,1795507200560000,'acme','acme/robots/helmet',NULL,'channel.moved','{"channel":"beta","from":null,"to":3}');
CREATE TABLE pointer_moves (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	asset TEXT NOT NULL, 
	channel TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	previous BIGINT, 
	moved_by TEXT NOT NULL, 
	why TEXT NOT NULL, 
	run_id TEXT
);
INSERT INTO "pointer_moves" VALUES(1,1790841600080000,'acme/robots/helmet','live',1,NULL,'tester','published by run run-1','run-1');
INSERT INTO "pointer_moves" VALUES(2,1791619200170000,'acme/kitchen/mug','live',1,NULL,'tester','published by run run-2','run-2');
INSERT INTO "pointer_moves" VALUES(3,1792396800260000,'acme/robots/helmet','live',2,1,'tester','published by run run-3','run-3');
INSERT INTO "pointer_moves" VALUES(4,1793174400350000,'zeta/default/boat','live',1,NULL,'tester','published by run run-4','run-4');
INSERT INTO "pointer_moves" VALUES(5,1793952000440000,'acme/robots/helmet','live',3,2,'tester','published by run run-5','run-5');
INSERT INTO "pointer_moves" VALUES(6,1795507200550000,'acme/robots/helmet','live',1,3,'ada','version 3 looks wrong',NULL);
INSERT INTO "pointer_moves" VALUES(7,1795507200560000,'acme/robots/helmet','beta',3,NULL,'ada','for the fair',NULL);
CREATE TABLE projects (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	tenant TEXT NOT NULL, 
	project TEXT NOT NULL, 
	CONSTRAINT uq_projects_tenant_project UNIQUE (tenant, project)
);
INSERT INTO "projects" VALUES(1,1790841600080000,'acme','robots');
INSERT INTO "projects" VALUES(2,1791619200170000,'acme','kitchen');
INSERT INTO "projects" VALUES(3,1793174400350000,'zeta','default');
CREATE TABLE provenance (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	asset TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	envelope TEXT NOT NULL, 
	CONSTRAINT fk_provenance_asset_number FOREIGN KEY(asset, number) REFERENCES versions (asset, number), 
	CONSTRAINT uq_provenance_asset_number UNIQUE (asset, number)
);
INSERT INTO "provenance" VALUES(1,1790841600080000,'acme/robots/helmet',1,'{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}');
INSERT INTO "provenance" VALUES(2,1791619200170000,'acme/kitchen/mug',1,'{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}');
INSERT INTO "provenance" VALUES(3,1792396800260000,'acme/robots/helmet',2,'{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}');
INSERT INTO "provenance" VALUES(4,1793174400350000,'zeta/default/boat',1,'{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}');
INSERT INTO "provenance" VALUES(5,1793952000440000,'acme/robots/helmet',3,'{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}');
CREATE TABLE quarantine (
	asset TEXT NOT NULL, 
	bake_key TEXT NOT NULL, 
	attempts BIGINT NOT NULL, 
	status TEXT NOT NULL, 
	error TEXT NOT NULL, 
	run_id TEXT, 
	created_at BIGINT NOT NULL, 
	CONSTRAINT pk_quarantine PRIMARY KEY (asset, bake_key)
);
INSERT INTO "quarantine" VALUES('zeta/default/boat','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',3,'timeout','{"code":"CB3001"}','run-failed',1795507200660000);
CREATE TABLE run_states (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	state TEXT NOT NULL, 
	number BIGINT, 
	error TEXT, 
	CONSTRAINT fk_run_states_run_id FOREIGN KEY(run_id) REFERENCES runs (run_id)
);
INSERT INTO "run_states" VALUES(1,1790841600020000,'run-1','running',NULL,NULL);
INSERT INTO "run_states" VALUES(2,1790841600090000,'run-1','completed',1,NULL);
INSERT INTO "run_states" VALUES(3,1791619200110000,'run-2','running',NULL,NULL);
INSERT INTO "run_states" VALUES(4,1791619200180000,'run-2','completed',1,NULL);
INSERT INTO "run_states" VALUES(5,1792396800200000,'run-3','running',NULL,NULL);
INSERT INTO "run_states" VALUES(6,1792396800270000,'run-3','completed',2,NULL);
INSERT INTO "run_states" VALUES(7,1793174400290000,'run-4','running',NULL,NULL);
INSERT INTO "run_states" VALUES(8,1793174400360000,'run-4','completed',1,NULL);
INSERT INTO "run_states" VALUES(9,1793952000380000,'run-5','running',NULL,NULL);
INSERT INTO "run_states" VALUES(10,1793952000450000,'run-5','completed',3,NULL);
INSERT INTO "run_states" VALUES(11,1794729600470000,'run-6','running',NULL,NULL);
INSERT INTO "run_states" VALUES(12,1794729600540000,'run-6','unchanged',1,NULL);
INSERT INTO "run_states" VALUES(13,1795507200580000,'run-rejected','running',NULL,NULL);
INSERT INTO "run_states" VALUES(14,1795507200590000,'run-rejected','rejected',NULL,NULL);
INSERT INTO "run_states" VALUES(15,1795507200610000,'run-failed','running',NULL,NULL);
INSERT INTO "run_states" VALUES(16,1795507200620000,'run-failed','failed',NULL,'{"code":"CB5201","message":"lost","retryable":true}');
INSERT INTO "run_states" VALUES(17,1795766400700000,'run-open','running',NULL,NULL);
INSERT INTO "run_states" VALUES(18,1795766400720000,'run-again','running',NULL,NULL);
INSERT INTO "run_states" VALUES(19,1795766400730000,'run-again','failed',NULL,'{"code":"CB5201"}');
INSERT INTO "run_states" VALUES(20,1795766400750000,'run-again','running',NULL,NULL);
CREATE TABLE runs (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	flow TEXT NOT NULL, 
	asset TEXT NOT NULL, 
	tenant TEXT NOT NULL, 
	recipe TEXT NOT NULL, 
	mode TEXT NOT NULL, 
	created_by TEXT NOT NULL, 
	parent_run_id TEXT, 
	CONSTRAINT uq_runs_run_id UNIQUE (run_id)
);
INSERT INTO "runs" VALUES(1,1790841600010000,'run-1','bake','acme/robots/helmet','acme','web','direct','ada',NULL);
INSERT INTO "runs" VALUES(2,1791619200100000,'run-2','bake','acme/kitchen/mug','acme','web','direct','ada',NULL);
INSERT INTO "runs" VALUES(3,1792396800190000,'run-3','bake','acme/robots/helmet','acme','web','direct','ada',NULL);
INSERT INTO "runs" VALUES(4,1793174400280000,'run-4','bake','zeta/default/boat','zeta','web','direct','ada',NULL);
INSERT INTO "runs" VALUES(5,1793952000370000,'run-5','bake','acme/robots/helmet','acme','web','direct','ada',NULL);
INSERT INTO "runs" VALUES(6,1794729600460000,'run-6','bake','acme/kitchen/mug','acme','web','direct','ada',NULL);
INSERT INTO "runs" VALUES(7,1795507200570000,'run-rejected','bake','acme/kitchen/mug','acme','web','direct','ada',NULL);
INSERT INTO "runs" VALUES(8,1795507200600000,'run-failed','bake','zeta/default/boat','zeta','web','direct','ada',NULL);
INSERT INTO "runs" VALUES(9,1795766400690000,'run-open','bake','acme/robots/helmet','acme','web','direct','ada',NULL);
INSERT INTO "runs" VALUES(10,1795766400710000,'run-again','bake','zeta/default/boat','zeta','web','direct','ada',NULL);
CREATE TABLE steps (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	stage TEXT NOT NULL, 
	attempt BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	started_at BIGINT NOT NULL, 
	finished_at BIGINT NOT NULL, 
	device TEXT NOT NULL, 
	error TEXT, 
	CONSTRAINT fk_steps_run_id FOREIGN KEY(run_id) REFERENCES runs (run_id)
);
INSERT INTO "steps" VALUES(1,1790841600040000,'run-1','optimize',1,'done',1790841600030000,1790841601030000,'cuda',NULL);
INSERT INTO "steps" VALUES(2,1791619200130000,'run-2','optimize',1,'done',1791619200120000,1791619202120000,'cpu',NULL);
INSERT INTO "steps" VALUES(3,1792396800220000,'run-3','optimize',1,'done',1792396800210000,1792396803210000,'cuda',NULL);
INSERT INTO "steps" VALUES(4,1793174400310000,'run-4','optimize',1,'done',1793174400300000,1793174404300000,'cpu',NULL);
INSERT INTO "steps" VALUES(5,1793952000400000,'run-5','optimize',1,'done',1793952000390000,1793952005390000,'cuda',NULL);
INSERT INTO "steps" VALUES(6,1794729600490000,'run-6','optimize',1,'done',1794729600480000,1794729606480000,'cpu',NULL);
CREATE TABLE tenants (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	tenant TEXT NOT NULL, 
	quota_bytes BIGINT, 
	used_bytes BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT uq_tenants_tenant UNIQUE (tenant)
);
INSERT INTO "tenants" VALUES(1,1790841600020000,'acme',NULL,75);
INSERT INTO "tenants" VALUES(2,1793174400290000,'zeta',1000,22);
CREATE TABLE usage_events (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	tenant TEXT NOT NULL, 
	asset TEXT, 
	run_id TEXT, 
	kind TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	amount BIGINT NOT NULL
);
INSERT INTO "usage_events" VALUES(1,1790841600040000,'acme','acme/robots/helmet','run-1','compute_ms','cuda',1000);
INSERT INTO "usage_events" VALUES(2,1790841600080000,'acme','acme/robots/helmet','run-1','stored_bytes','public',20);
INSERT INTO "usage_events" VALUES(3,1790841600080000,'acme','acme/robots/helmet','run-1','stored_bytes','vault',8);
INSERT INTO "usage_events" VALUES(4,1791619200130000,'acme','acme/kitchen/mug','run-2','compute_ms','cpu',2000);
INSERT INTO "usage_events" VALUES(5,1791619200170000,'acme','acme/kitchen/mug','run-2','stored_bytes','public',14);
INSERT INTO "usage_events" VALUES(6,1791619200170000,'acme','acme/kitchen/mug','run-2','stored_bytes','vault',5);
INSERT INTO "usage_events" VALUES(7,1792396800220000,'acme','acme/robots/helmet','run-3','compute_ms','cuda',3000);
INSERT INTO "usage_events" VALUES(8,1792396800260000,'acme','acme/robots/helmet','run-3','stored_bytes','public',20);
INSERT INTO "usage_events" VALUES(9,1792396800260000,'acme','acme/robots/helmet','run-3','stored_bytes','vault',8);
INSERT INTO "usage_events" VALUES(10,1793174400310000,'zeta','zeta/default/boat','run-4','compute_ms','cpu',4000);
INSERT INTO "usage_events" VALUES(11,1793174400350000,'zeta','zeta/default/boat','run-4','stored_bytes','public',16);
INSERT INTO "usage_events" VALUES(12,1793174400350000,'zeta','zeta/default/boat','run-4','stored_bytes','vault',6);
INSERT INTO "usage_events" VALUES(13,1793952000400000,'acme','acme/robots/helmet','run-5','compute_ms','cuda',5000);
INSERT INTO "usage_events" VALUES(14,1794729600490000,'acme','acme/kitchen/mug','run-6','compute_ms','cpu',6000);
CREATE TABLE version_sources (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	asset TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	name TEXT NOT NULL, 
	media_type TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	storage_key TEXT NOT NULL, 
	CONSTRAINT fk_version_sources_asset_number FOREIGN KEY(asset, number) REFERENCES versions (asset, number), 
	CONSTRAINT fk_version_sources_storage_key FOREIGN KEY(storage_key) REFERENCES blobs (storage_key), 
	CONSTRAINT uq_version_sources_asset_number_name UNIQUE (asset, number, name)
);
INSERT INTO "version_sources" VALUES(1,1790841600080000,'acme/robots/helmet',1,'helmet.glb','model/gltf-binary','1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b',8,'vault/acme/13/1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b.1e2feb89414c');
INSERT INTO "version_sources" VALUES(2,1791619200170000,'acme/kitchen/mug',1,'mug.glb','model/gltf-binary','ef0fcf9990b76372eda3ad64d513fdeb2bcdd10913eb8302065a99d865a51c44',5,'vault/acme/ef/ef0fcf9990b76372eda3ad64d513fdeb2bcdd10913eb8302065a99d865a51c44.9b810e766ec9');
INSERT INTO "version_sources" VALUES(3,1792396800260000,'acme/robots/helmet',2,'helmet.glb','model/gltf-binary','e8e58a02304a5b1fbecc124d334ae187ecb3aed5f3832b2e157b4f1a055a76f2',8,'vault/acme/e8/e8e58a02304a5b1fbecc124d334ae187ecb3aed5f3832b2e157b4f1a055a76f2.05b6e6e307d4');
INSERT INTO "version_sources" VALUES(4,1793174400350000,'zeta/default/boat',1,'boat.glb','model/gltf-binary','5a446b8d5df6d7335550a0ed14410415633998c87ca0a5b43c81be6353a8f8e0',6,'vault/zeta/5a/5a446b8d5df6d7335550a0ed14410415633998c87ca0a5b43c81be6353a8f8e0.c381e88f38c0');
INSERT INTO "version_sources" VALUES(5,1793952000440000,'acme/robots/helmet',3,'helmet.glb','model/gltf-binary','1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b',8,'vault/acme/13/1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b.1e2feb89414c');
CREATE TABLE versions (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at BIGINT NOT NULL, 
	asset TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	tenant TEXT NOT NULL, 
	bake_key TEXT NOT NULL, 
	recipe TEXT NOT NULL, 
	recipe_hash TEXT NOT NULL, 
	engine TEXT, 
	tools TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	created_by TEXT NOT NULL, 
	change_note TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	CONSTRAINT fk_versions_asset FOREIGN KEY(asset) REFERENCES assets (asset), 
	CONSTRAINT uq_versions_asset_number UNIQUE (asset, number)
);
INSERT INTO "versions" VALUES(1,1790841600080000,'acme/robots/helmet',1,'acme','1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b','web','bde1489624c3f4f8041d716bfb56754a5bbf2c99054424bc25eddc8a9139ad1a',NULL,'{"encoder":"1.0","packer":"2.1"}','run-1','tester','',20);
INSERT INTO "versions" VALUES(2,1791619200170000,'acme/kitchen/mug',1,'acme','ef0fcf9990b76372eda3ad64d513fdeb2bcdd10913eb8302065a99d865a51c44','web','bde1489624c3f4f8041d716bfb56754a5bbf2c99054424bc25eddc8a9139ad1a',NULL,'{"encoder":"1.0","packer":"2.1"}','run-2','tester','',14);
INSERT INTO "versions" VALUES(3,1792396800260000,'acme/robots/helmet',2,'acme','e8e58a02304a5b1fbecc124d334ae187ecb3aed5f3832b2e157b4f1a055a76f2','web','bde1489624c3f4f8041d716bfb56754a5bbf2c99054424bc25eddc8a9139ad1a',NULL,'{"encoder":"1.0","packer":"2.1"}','run-3','tester','',20);
INSERT INTO "versions" VALUES(4,1793174400350000,'zeta/default/boat',1,'zeta','5a446b8d5df6d7335550a0ed14410415633998c87ca0a5b43c81be6353a8f8e0','web','bde1489624c3f4f8041d716bfb56754a5bbf2c99054424bc25eddc8a9139ad1a',NULL,'{"encoder":"1.0","packer":"2.1"}','run-4','tester','',16);
INSERT INTO "versions" VALUES(5,1793952000440000,'acme/robots/helmet',3,'acme','1311489c13069fd5ef0f6daaed66302c3dfd3fb0bcd6ac58b9ca8ff37af8c57b','web','bde1489624c3f4f8041d716bfb56754a5bbf2c99054424bc25eddc8a9139ad1a',NULL,'{"encoder":"1.0","packer":"2.1"}','run-5','tester','',20);
CREATE INDEX ix_assets_tenant ON assets (tenant);
CREATE INDEX ix_blobs_unreferenced ON blobs (lease_until) WHERE refcount = 0;
CREATE INDEX ix_deletions_pending ON deletions (storage_key) WHERE NOT done;
CREATE INDEX ix_findings_asset_number ON findings (asset, number);
CREATE INDEX ix_losses_asset_number ON losses (asset, number);
CREATE INDEX ix_metrics_run_id ON metrics (run_id);
CREATE INDEX ix_pointer_moves_asset ON pointer_moves (asset);
CREATE INDEX ix_runs_asset ON runs (asset);
CREATE INDEX ix_usage_events_tenant_kind ON usage_events (tenant, kind);
CREATE INDEX ix_run_states_run_id ON run_states (run_id);
CREATE INDEX ix_steps_run_id ON steps (run_id);
CREATE INDEX ix_versions_asset_bake_key ON versions (asset, bake_key);
CREATE INDEX ix_artifacts_storage_key ON artifacts (storage_key);
CREATE INDEX ix_version_sources_storage_key ON version_sources (storage_key);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tenants',2);
INSERT INTO "sqlite_sequence" VALUES('runs',10);
INSERT INTO "sqlite_sequence" VALUES('run_states',20);
INSERT INTO "sqlite_sequence" VALUES('steps',6);
INSERT INTO "sqlite_sequence" VALUES('metrics',42);
INSERT INTO "sqlite_sequence" VALUES('usage_events',14);
INSERT INTO "sqlite_sequence" VALUES('outbox',18);
INSERT INTO "sqlite_sequence" VALUES('projects',3);
INSERT INTO "sqlite_sequence" VALUES('assets',3);
INSERT INTO "sqlite_sequence" VALUES('versions',5);
INSERT INTO "sqlite_sequence" VALUES('provenance',5);
INSERT INTO "sqlite_sequence" VALUES('version_sources',5);
INSERT INTO "sqlite_sequence" VALUES('artifacts',10);
INSERT INTO "sqlite_sequence" VALUES('findings',6);
INSERT INTO "sqlite_sequence" VALUES('losses',5);
INSERT INTO "sqlite_sequence" VALUES('audit',14);
INSERT INTO "sqlite_sequence" VALUES('pointer_moves',7);
INSERT INTO "sqlite_sequence" VALUES('deletions',1);
COMMIT;
