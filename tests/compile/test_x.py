def test_x(dataset, tmp_path):
    import numpy as np
    import onnx
    import torch
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

    from compile import snapdragon as htp
    from compile.export import canonical, export_onnx
    from compile.quantise import _means, _quantise, _reader, _widened, quantise_portable, quantise_qnn
    from compile.reference import Pictures, predict
    from drivelake.declaration import Model, Target
    from drivelake.learning.data import load_split
    from drivelake.learning.model import as_input, build_model
    T=("speed_mps", "curvature_1pm")
    M = Model(dataset="tiny", targets=T, input_width=64, input_height=48, channels=8)
    tr=load_split(dataset,M,"train")
    for seed in range(3):
        torch.manual_seed(seed)
        net=build_model(M,target_mean=tr.targets.mean(0).tolist(),target_std=tr.targets.std(0).tolist()).train()
        opt=torch.optim.AdamW(net.parameters(),3e-3,weight_decay=1e-2); x=as_input(tr.images); y=torch.from_numpy(tr.targets)
        for i in range(150):
            k=torch.randperm(64)[:32]; l=(((net(x[k])-y[k])/net.target_std)**2).mean(); opt.zero_grad(); l.backward(); opt.step()
        net.eval(); raw=export_onnx(net,M)
        cal=Pictures(tr.images[:32]); va=load_split(dataset,M,"validation"); v=Pictures(va.images); f=predict(raw,v,T)
        print("\nseed",seed,"R2",1-((f-va.targets)**2).sum(0)/((va.targets-va.targets.mean(0))**2).sum(0), "std", f.std(0))
        def rep(tag,q):
            o=tmp_path/f"{tag}{seed}"; o.mkdir(); htp.build(q,Target(kind="snapdragon"),o); h=htp.run(o,v,T); c=predict(q,v,T)
            print(tag,"ort-float",np.abs(c-f).mean(0)/f.std(0),"htp-float",np.abs(h-f).mean(0)/f.std(0),"htp-ort",np.abs(h-c).mean(0)/f.std(0))
        rep("pt",quantise_qnn(raw,cal,T))
        ranges=dict(zip(T,_widened(predict(raw,cal,T))))
        for node,mean in _means(raw,T):
            l,h=ranges[node.output[0]]; ranges[node.input[0]]=(l-mean,h-mean)
        for tag,pc,wt in (("pc",True,QuantType.QInt8),("pts8",False,QuantType.QInt8)):
            cfg=get_qnn_qdq_config(onnx.load_from_string(raw),_reader(cal),activation_type=QuantType.QUInt16,weight_type=wt,per_channel=pc,
             init_overrides={n:[{"quant_type":QuantType.QUInt16,"rmin":np.float32(l),"rmax":np.float32(h)}] for n,(l,h) in ranges.items()})
            rep(tag,canonical(_quantise(raw,cfg)))
        c=predict(quantise_portable(raw,cal,T),v,T); print("portable",np.abs(c-f).mean(0)/f.std(0))
